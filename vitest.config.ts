import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"
import { SummaryReporter } from "./test/support/SummaryReporter.js"

const source = (path: string) => fileURLToPath(new URL(`./src/${path}`, import.meta.url))

export default defineConfig({
  resolve: {
    alias: [
      { find: /^effect-coord$/, replacement: source("index.ts") },
      { find: /^effect-coord\/(.+)$/, replacement: source("$1.ts") }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    setupFiles: ["test/support/strictEquality.ts"],
    reporters: ["default", new SummaryReporter()],
    pool: "forks",
    // Much of the time they wait for leases to end and servers to start: three keep two cores busy.
    poolOptions: { forks: { minForks: 1, maxForks: 3 } },
    // For what hangs: on a busy machine anything else can take ten times as long as on an idle one.
    testTimeout: 90_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000
  }
})
