import { EtcdError } from "../../EtcdError.js"
import { classify, Code, mayBeApplied, type Status } from "../etcdErrors.js"
import type { Operation } from "./model.js"

/** The only endpoint there is. */
export const endpoint = "memory:etcd"

export const dropped: Status = { code: Code.Unavailable, details: "Connection dropped" }

export const notConnected: Status = {
  code: Code.Unavailable,
  details: `No connection established. Last error: connect ECONNREFUSED ${endpoint}`
}

export const closed: Status = { code: Code.Unavailable, details: "Channel closed before call started" }

/** What a client hears that lives longer than the engine. It is final, so that nobody waits to try again. */
export const gone: Status = {
  code: Code.FailedPrecondition,
  details: "the etcd of this test is closed: its scope ended before the client's"
}

export const deadlineExceeded = (timeoutMillis: number): Status => ({
  code: Code.DeadlineExceeded,
  details: `Deadline exceeded after ${(timeoutMillis / 1000).toFixed(3)}s,remote_addr=${endpoint}`
})

export const toError = (
  operation: Operation,
  { code, details }: Status,
  isRead: boolean,
  key?: string
): EtcdError =>
  new EtcdError({
    operation,
    reason: classify(code, details),
    code,
    endpoint,
    ...(key === undefined ? {} : { key }),
    mayBeApplied: mayBeApplied(code, details, isRead),
    detail: details
  })

/** How etcd writes a refusal into the cancel reason of a watch. */
export const cancelReason = ({ code, details }: Status): string => {
  const name = Object.entries(Code).find(([, value]) => value === code)?.[0] ?? `Code(${code})`
  return `rpc error: code = ${name} desc = ${details}`
}
