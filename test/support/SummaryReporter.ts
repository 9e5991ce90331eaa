import type { Reporter, TestModule, TestRunEndReason } from "vitest/node"

/**
 * Ends the output with one plain line of counts. A file that cannot be run counts as one failed test, and so does a run
 * that fails as a whole.
 */
export class SummaryReporter implements Reporter {
  onTestRunEnd(
    modules: ReadonlyArray<TestModule>,
    errors: ReadonlyArray<unknown>,
    reason: TestRunEndReason
  ): void {
    const counts = { passed: 0, failed: errors.length, skipped: 0 }
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        counts[state === "pending" ? "failed" : state]++
      }
      if (module.errors().length > 0) {
        counts.failed++
      }
    }
    if (reason !== "passed" && counts.failed === 0) {
      counts.failed = 1
    }
    const skipped = counts.skipped === 0 ? "" : `, ${counts.skipped} skipped`
    process.on("exit", () => console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`))
  }
}
