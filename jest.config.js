/** Tests run against the sources in lib/; swc strips the types (tsc checks them in `npm run lint`). */
module.exports = {
  rootDir: __dirname,
  testEnvironment: 'node',
  testMatch: ['<rootDir>/test/{unit,golden,conformance}/**/*.test.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
        module: { type: 'commonjs' },
      },
    ],
  },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/build', '<rootDir>/prebuilds'],
  // Timing tests and two-thread models want the cores to themselves.
  maxWorkers: 1,
  testTimeout: 60_000,
}
