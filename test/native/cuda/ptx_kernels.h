// Launchers of the kernels that call each function of ptx_*.cuh once. All pointers are to device memory.
#pragma once

#include <cstdint>

namespace cria::test {

void narrow(const float* x, std::uint16_t* f16, std::uint16_t* bf16, std::uint32_t* f16x2,
            std::uint32_t* bf16x2, int n);
void widen(const std::uint16_t* x, float* f16, float* bf16, int n);
/// out: fma, add, sub, mul, each [n].
void pair_arithmetic(const std::uint32_t* a, const std::uint32_t* b, const std::uint32_t* c,
                     std::uint32_t* out, int n);
/// out: dp4a, dp4a_unsigned, lop3<0xea>, lop3<0x6a>, __byte_perm(a, b, c), __popc, __clz, each [n].
void integer_arithmetic(const std::uint32_t* a, const std::uint32_t* b, const std::uint32_t* c,
                        std::uint32_t* out, int n);
/// out: 2^x, 1 / x, each [n].
void approximations(const float* x, float* out, int n);

/// Collectives of one warp. out: [14, 32].
void warp_collectives(const std::uint32_t* x, std::uint32_t* out);
constexpr int kWarpCollectives = 14;

/// Copies n blocks of 16 bytes through shared memory by cp.async of `bytes`, four stages; block i is zeros
/// where valid[i] is 0.
void copy_cp_async(int bytes, const std::uint32_t* from, const int* valid, std::uint32_t* to, int n);
/// The same with cp.async counted by an mbarrier, and with bulk copies. False where the device has neither.
bool copy_mbarrier(const std::uint32_t* from, std::uint32_t* to, int n);
bool copy_bulk(const std::uint32_t* from, std::uint32_t* to, int n);
/// A bulk copy of kCopiedOver blocks of 16 bytes over shared memory that threads have written.
bool copy_over(const std::uint32_t* from, std::uint32_t* to);
constexpr int kCopiedOver = 64;

/// x: four 8x8 matrices of 16 bits; out: [matrices, 32].
void load_matrices(int matrices, bool transposed, const std::uint16_t* x, std::uint32_t* out);
enum class Mma { f16, bf16, s8 };
/// a: [4, 32] registers, b: [2, 32], c: [4, 32] in and out (float bits or int32).
void multiply_fragments(Mma kind, const std::uint32_t* a, const std::uint32_t* b, std::uint32_t* c);

/// Loads of each kind: out[i] = x[i], 16 bytes a thread.
void load_all_ways(const std::uint32_t* x, std::uint32_t* out, int n);
/// Two warps fill a buffer and two empty it, synchronized by named barriers. out[i] = x[i] + 1, in pieces
/// of 64.
void named_barriers(const std::uint32_t* x, std::uint32_t* out, int n);
/// Every block sums its part; the last block to end adds up the parts. *counter is 0 before and after.
void last_block_sum(const std::uint32_t* x, std::uint32_t* parts, std::uint32_t* counter, std::uint32_t* sum,
                    int n, int blocks);
/// Blocks of a cooperative grid pass a token in order.
void pass_token(std::uint32_t* token, std::uint32_t* seen, int blocks);
/// `rounds` kernels, each of which may begin before the previous one has ended: out[i] = rounds * x[i].
void overlapping_kernels(const std::uint32_t* x, std::uint32_t* out, int n, int rounds);

}  // namespace cria::test
