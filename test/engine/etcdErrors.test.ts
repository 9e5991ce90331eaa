import { assert, describe, it } from "@effect/vitest"
import { classify, Code, mayBeApplied, Statuses } from "../../src/internal/etcdErrors.js"

describe("etcdErrors", () => {
  const cases: ReadonlyArray<readonly [number, string, string, boolean]> = [
    // code, details, reason, whether a write may be applied
    [14, "No connection established. Last error: read ECONNRESET", "Unavailable", false],
    [14, "Name resolution failed for target dns:etcd:2379", "Unavailable", false],
    [14, "connect ECONNREFUSED 127.0.0.1:2379", "Unavailable", false],
    [14, "Channel closed before call started", "Unavailable", false],
    [14, "Stream refused by server", "Unavailable", false],
    [14, "Connection dropped", "Unavailable", true],
    [14, "read ECONNRESET", "Unavailable", true],
    [14, Statuses.noLeader.details, "Unavailable", false],
    [14, Statuses.leaderChanged.details, "Unavailable", true],
    [14, Statuses.timeout.details, "Unavailable", true],
    [14, Statuses.timeoutLeaderFailed.details, "Unavailable", true],
    [14, Statuses.stopped.details, "Unavailable", true],
    [9, Statuses.notLeader.details, "Unavailable", false],
    [4, "Deadline exceeded after 1.001s,LB pick: 0.001s,remote_addr=127.0.0.1:2379", "DeadlineExceeded", true],
    [4, "Deadline exceeded after 1.001s,name resolution: 0.001s,Waiting for LB pick", "DeadlineExceeded", false],
    [1, "Call cancelled", "Unavailable", true],
    [2, "not a primary lessor", "Unavailable", true],
    [2, "whatever", "Unexpected", true],
    [3, Statuses.emptyKey.details, "InvalidRequest", false],
    [3, Statuses.tooManyOps.details, "TooLarge", false],
    [3, Statuses.requestTooLarge.details, "TooLarge", false],
    [3, Statuses.duplicateKey.details, "DuplicateKey", false],
    [3, Statuses.authFailed.details, "Unauthenticated", false],
    [3, Statuses.authOldRevision.details, "Unauthenticated", false],
    [3, Statuses.userEmpty.details, "Unauthenticated", false],
    [16, Statuses.invalidAuthToken.details, "Unauthenticated", false],
    [7, Statuses.permissionDenied.details, "PermissionDenied", false],
    [5, Statuses.leaseNotFound.details, "LeaseNotFound", false],
    [9, Statuses.leaseExists.details, "LeaseExists", false],
    [11, Statuses.compacted.details, "Compacted", false],
    [11, Statuses.futureRevision.details, "FutureRevision", false],
    [11, Statuses.leaseTtlTooLarge.details, "InvalidRequest", false],
    [8, Statuses.tooManyRequests.details, "NoSpace", false],
    // etcd applies a write and answers this, when the space ran out between its two checks
    [8, Statuses.noSpace.details, "NoSpace", true],
    [8, "grpc: received message larger than max (3000000 vs. 2097152)", "TooLarge", false],
    [8, "Attempted to send message with a size larger than 4194304", "TooLarge", false],
    // the answer was too large; its request was carried out
    [8, "Received message larger than max (5000000 vs 4194304)", "TooLarge", true],
    [8, "grpc: trying to send message larger than max (5000000 vs. 4194304)", "TooLarge", true],
    [12, "unknown service etcdserverpb.KV", "Unexpected", false],
    [13, "Received RST_STREAM with code 2 (Internal server error)", "Unavailable", true],
    [13, "panic", "Unexpected", true]
  ]
  for (const [code, details, reason, applied] of cases) {
    it(`${code} ${JSON.stringify(details)} is ${reason}`, () => {
      assert.strictEqual(classify(code, details), reason)
      assert.strictEqual(mayBeApplied(code, details, false), applied)
      assert.isFalse(mayBeApplied(code, details, true))
    })
  }

  it("knows a reason for every code", () => {
    for (const code of Object.values(Code)) {
      assert.isString(classify(code, ""))
    }
  })
})
