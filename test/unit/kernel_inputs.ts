/** Small inputs for the kernel tests. */

export const one = Float32Array.of(1)
export const two = Float32Array.of(1, 2)
export const q4 = (rows: number, cols: number) => ({
  data: new Uint8Array((rows * cols * 18) / 32),
  dtype: 'Q4_0' as const,
  shape: [rows, cols],
})
