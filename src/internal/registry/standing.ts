/** How a registration stands, for those who look at it: each kind of trouble is told once until it is over. */
import type * as Option from "effect/Option"
import type * as Stream from "effect/Stream"
import type { EtcdError, EtcdErrorReason } from "../../EtcdError.js"
import type { SessionState } from "../../Session.js"
import * as Cell from "../cell.js"
import type { RegistrationStatus, ServiceInfo } from "./model.js"

export interface Standing {
  readonly status: () => RegistrationStatus
  readonly statuses: Stream.Stream<RegistrationStatus>
  readonly isTroubled: () => boolean
  /** The entry was put with this lease. */
  readonly registered: (lease: bigint) => void
  /** All is as it should be, as far as etcd can be asked. */
  readonly steady: () => void
  /** Somebody else has the entry. Whether that is news. */
  readonly replaced: (lease: bigint, by: Option.Option<ServiceInfo>) => boolean
  /** The entry is not there any more. Whether that is news. */
  readonly lost: (reason: string) => boolean
  readonly failed: (error: EtcdError) => void
  /** What becomes of the connection of the session. */
  readonly connection: (state: SessionState) => void
  /** Nothing is told any more but the end. */
  readonly closing: () => void
  readonly over: () => void
}

/** Why the entry may not be there as it should. */
interface Problem {
  readonly sinceMillis: number
  readonly reason: string
}

type Kind = "lost" | "away" | EtcdErrorReason

/** The same for all: there are thousands, and most are never in trouble. */
const nothing: ReadonlyArray<Kind> = []

/** etcd cannot be asked, and why does not matter: attempts under one outage fail in one way and the other by turns. */
const isAway = ({ reason }: EtcdError): boolean => reason === "Unavailable" || reason === "DeadlineExceeded"

const sameStatus = (a: RegistrationStatus, b: RegistrationStatus): boolean =>
  a._tag === "Registered"
    ? b._tag === "Registered" && a.lease === b.lease
    : a._tag === "Reconnecting"
    ? b._tag === "Reconnecting" && a.reason === b.reason && a.sinceMillis === b.sinceMillis
    : a._tag === "Replaced"
    ? b._tag === "Replaced" && a.lease === b.lease && a.sinceMillis === b.sinceMillis
    : b._tag === a._tag

export const make = (now: () => number): Standing => {
  const cell = Cell.make<RegistrationStatus>(
    { _tag: "Reconnecting", sinceMillis: now(), reason: "not registered yet" },
    sameStatus
  )
  /** Without trouble. */
  let standing: (RegistrationStatus & { readonly _tag: "Registered" | "Replaced" }) | undefined
  let trouble: Problem | undefined
  let disconnected: Problem | undefined
  /** What was told of the present trouble. */
  let told = nothing
  let closing = false

  const publish = (): void => {
    const problem = trouble ?? disconnected
    if (closing) return
    if (problem !== undefined) cell.set({ _tag: "Reconnecting", ...problem })
    else if (standing !== undefined) cell.set(standing)
  }

  const troubled = (kind: Kind, reason: string): void => {
    if (told.includes(kind)) return
    told = [...told, kind]
    trouble = { sinceMillis: trouble?.sinceMillis ?? disconnected?.sinceMillis ?? now(), reason }
    publish()
  }

  const steady = (): void => {
    trouble = undefined
    told = nothing
    publish()
  }

  return {
    status: cell.get,
    statuses: cell.changes,
    isTroubled: () => trouble !== undefined,
    registered: (lease) => {
      standing = { _tag: "Registered", lease }
      disconnected = undefined
      steady()
    },
    steady,
    replaced: (lease, by) => {
      const news = standing?._tag !== "Replaced" || standing.lease !== lease
      if (news) standing = { _tag: "Replaced", sinceMillis: now(), lease, by }
      steady()
      return news
    },
    lost: (reason) => {
      if (told.includes("lost")) return false
      if (disconnected !== undefined) told = [...told, "away"]
      troubled("lost", disconnected === undefined ? reason : `${reason}: ${disconnected.reason}`)
      return true
    },
    failed: (error) => {
      if (isAway(error)) troubled("away", disconnected?.reason ?? error.message)
      else troubled(error.reason, error.message)
    },
    connection: (state) => {
      if (state._tag === "Active") disconnected = undefined
      if (state._tag === "Disconnected") disconnected ??= { sinceMillis: now(), reason: state.reason }
      publish()
    },
    closing: () => {
      closing = true
    },
    over: () => cell.set({ _tag: "Unregistered" })
  }
}
