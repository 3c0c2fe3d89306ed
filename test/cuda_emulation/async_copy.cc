// Asynchronous copies: nothing arrives before it is waited for.
#include "cuda_emulation/grid.h"

namespace cria::cuda::emulation {

void end_thread_copies(Thread&) {}

}  // namespace cria::cuda::emulation
