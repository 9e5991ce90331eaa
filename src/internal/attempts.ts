/**
 * Conditional writes that are applied exactly once, and whose outcome is told truthfully, although answers get lost.
 *
 * Each transaction also moves a marker: a key of this client alone, with a lease, under `/coord/attempts/`. It is sent on
 * the condition that the marker has not moved since the last one, so no copy of it that arrives late does anything. When
 * the answer is lost, a second transaction moves the marker *unless* the first has moved it: either it finds that the
 * first was applied, or it makes sure that it never will be, and then all may be done again. No other client's writes
 * come into it, so there is neither a false conflict nor a false success.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { randomUUID } from "node:crypto"
import { EtcdClient } from "../EtcdClient.js"
import { EtcdError } from "../EtcdError.js"
import type { Compare, KeyValue, Op, OpResponse } from "../Txn.js"
import * as Txn from "../Txn.js"
import { toText } from "./bytes.js"
import * as InTurn from "./inTurn.js"

export interface Request {
  readonly compare: ReadonlyArray<Compare>
  readonly success: ReadonlyArray<Op>
  /** Reads that go along when the compares do not hold. */
  readonly failure?: ReadonlyArray<Op> | undefined
}

export type Outcome =
  | { readonly applied: true; readonly revision: bigint }
  | { readonly applied: false; readonly reads: ReadonlyArray<OpResponse>; readonly revision: bigint }

export interface Attempts {
  /** Fails with `mayBeApplied` only when etcd could not be asked what became of the request. */
  readonly commit: (request: Request) => Effect.Effect<Outcome, EtcdError>
}

/** A marker, used by one attempt at a time. */
interface Slot {
  readonly key: string
  readonly lease: bigint
  /** The revision of its last move that is known; `0n` before the first. */
  modRevision: bigint
  /** Whether the marker may have moved since, or may still move. */
  isOpen: boolean
}

interface Lease {
  readonly id: bigint
  readonly idle: Array<Slot>
  /** How many markers were left to it. */
  left: number
  renewAt: bigint
  endsAt: bigint
}

const prefix = "/coord/attempts/"
const applied = ""
const withdrawn = "withdrawn"

/**
 * Only cleans up: a marker that is gone together with its lease makes an outcome unknown, never wrong, as what is sent
 * with a lease that is gone is refused. It is longer than calls take, repetitions included.
 */
const leaseTtl = Duration.seconds(60)
const closeTimeout = Duration.seconds(2)
/** A lease with so many markers that nobody moves any more is not renewed: they go with it. */
const maxLeft = 16
/** How often a request that was withdrawn is sent again before its failure is passed on. */
const repetitions = 8

/** The marker is not where this client left it, so that nothing was done: its lease is gone. */
const markerGone = "markerGone" as const

const markerOf = (answer: OpResponse | undefined): KeyValue | undefined =>
  answer?._tag === "Range" ? answer.response.kvs[0] : undefined

export const make: Effect.Effect<Attempts, never, EtcdClient | Scope.Scope> = Effect.gen(function*() {
  const client = yield* EtcdClient
  const clock = yield* Effect.clock
  const inTurn = InTurn.make()
  const clientId = randomUUID()
  let current: Lease | undefined
  let slots = 0

  const now = (): bigint => clock.unsafeCurrentTimeNanos()

  const times = (sentAt: bigint, ttl: Duration.Duration) => {
    const nanos = BigInt(Math.floor(Duration.toMillis(ttl))) * 1_000_000n
    return { renewAt: sentAt + nanos / 2n, endsAt: sentAt + nanos }
  }

  const grant: Effect.Effect<Lease, EtcdError> = Effect.suspend(() => {
    const sentAt = now()
    return client.leaseGrant({ ttl: leaseTtl }).pipe(
      Effect.map(({ id, ttl }): Lease => {
        current = { id, idle: [], left: 0, ...times(sentAt, ttl) }
        return current
      }),
      // A lease without keys is nothing to the caller, whose request has not been sent.
      Effect.mapError((error) => error.mayBeApplied ? new EtcdError({ ...error, mayBeApplied: false }) : error)
    )
  })

  const renew = (lease: Lease): Effect.Effect<void, EtcdError> =>
    Effect.suspend(() => {
      const sentAt = now()
      return Effect.map(client.leaseKeepAliveOnce(lease.id), ({ ttl }) => {
        Object.assign(lease, times(sentAt, ttl))
      })
    })

  const isWorn = ({ left }: Lease): boolean => left >= maxLeft

  const usable = (): Lease | undefined =>
    current !== undefined && !isWorn(current) && now() < current.renewAt ? current : undefined

  const renewed = inTurn(Effect.suspend(() => {
    const lease = current
    if (lease === undefined || isWorn(lease) || now() >= lease.endsAt) return grant
    return usable() === undefined ? Effect.orElse(Effect.as(renew(lease), lease), () => grant) : Effect.succeed(lease)
  }))

  const lease: Effect.Effect<Lease, EtcdError> = Effect.suspend(() => {
    const present = usable()
    return present === undefined ? renewed : Effect.succeed(present)
  })

  yield* Effect.addFinalizer(() =>
    current === undefined
      ? Effect.void
      : Effect.ignore(client.leaseRevoke(current.id, { timeout: closeTimeout }))
  )

  const unmoved = (slot: Slot): Compare => Txn.modRevision(slot.key, "=", slot.modRevision)
  const move = (slot: Slot, value: string): Op => Txn.put({ key: slot.key, value, lease: slot.lease })

  const moved = (slot: Slot, revision: bigint): void => {
    slot.modRevision = revision
    slot.isOpen = false
  }

  const send = (
    slot: Slot,
    request: Request,
    left: number
  ): Effect.Effect<Outcome | typeof markerGone, EtcdError> =>
    Effect.suspend(() => {
      slot.isOpen = true
      return client.txn({
        compare: [...request.compare, unmoved(slot)],
        success: [...request.success, move(slot, applied)],
        failure: [Txn.range({ key: slot.key, keysOnly: true }), ...request.failure ?? []]
      })
    }).pipe(
      Effect.map(({ header: { revision }, responses: [marker, ...reads], succeeded }) => {
        if (succeeded) {
          moved(slot, revision)
          return { applied: true, revision } as const
        }
        if ((markerOf(marker)?.modRevision ?? 0n) !== slot.modRevision) return markerGone
        slot.isOpen = false
        return { applied: false, reads, revision } as const
      }),
      Effect.catchAll((error) => {
        slot.isOpen = error.mayBeApplied
        // After a deadline the caller's time is over.
        return error.mayBeApplied && error.reason === "Unavailable" && left > 0
          ? withdraw(slot, request, error, left)
          : Effect.fail(error)
      })
    )

  const withdraw = (
    slot: Slot,
    request: Request,
    error: EtcdError,
    left: number
  ): Effect.Effect<Outcome | typeof markerGone, EtcdError> =>
    client.txn({
      compare: [unmoved(slot)],
      success: [move(slot, withdrawn)],
      failure: [Txn.range({ key: slot.key })]
    }, { idempotent: true }).pipe(
      Effect.matchEffect({
        onFailure: () => Effect.fail(error),
        onSuccess: ({ header, responses: [answer], succeeded }) => {
          const marker = markerOf(answer)
          // Gone with its lease, and what it told with it.
          if (!succeeded && marker === undefined) return Effect.fail(error)
          moved(slot, marker?.modRevision ?? header.revision)
          return marker !== undefined && toText(marker.value) === applied
            ? Effect.succeed({ applied: true, revision: marker.modRevision } as const)
            : send(slot, request, left - 1)
        }
      })
    )

  const take = (lease: Lease): Slot =>
    lease.idle.pop() ?? { key: `${prefix}${clientId}-${slots++}`, lease: lease.id, modRevision: 0n, isOpen: false }

  const commit: Attempts["commit"] = (request) =>
    Effect.flatMap(lease, (lease) => {
      const again = Effect.suspend(() => {
        if (current === lease) current = undefined
        return commit(request)
      })
      return Effect.acquireUseRelease(
        Effect.sync(() => take(lease)),
        (slot) => send(slot, request, repetitions),
        // A marker whose last move is not known is left to the lease.
        (slot) =>
          Effect.sync(() => {
            if (slot.isOpen) lease.left++
            else lease.idle.push(slot)
          })
      ).pipe(
        Effect.catchIf(
          (error) => error.reason === "LeaseNotFound" && !error.mayBeApplied,
          // Either the markers' lease, which can be replaced, or one that the request itself names.
          (error) =>
            Effect.matchEffect(renew(lease), {
              onSuccess: () => Effect.fail(error),
              onFailure: ({ reason }) => reason === "LeaseNotFound" ? Effect.succeed(markerGone) : Effect.fail(error)
            })
        ),
        Effect.flatMap((outcome) => outcome === markerGone ? again : Effect.succeed(outcome))
      )
    })

  return { commit }
})
