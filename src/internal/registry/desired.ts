/** What is to be registered: the service with its updates, and those who wait until etcd has them. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { EtcdError } from "../../EtcdError.js"
import type { NotFound, ServiceInfo } from "./model.js"
import * as Traits from "./traits.js"

export interface Target {
  readonly service: ServiceInfo
  readonly value: string
  /** Counts the updates. */
  readonly version: number
}

type Metadata = ServiceInfo["metadata"]
type Result = Effect.Effect<void, EtcdError | NotFound>

export interface Desired {
  readonly present: () => Target
  /** Asks for other metadata, made of the present ones. The effect that is returned waits for the result. */
  readonly change: (next: (metadata: Metadata) => Metadata) => Result
  readonly isAwaited: () => boolean
  /** Tells those who asked for the versions up to this one how they ended. */
  readonly answer: (version: number, result: Result) => Effect.Effect<void>
  /** etcd has it. */
  readonly accepted: (target: Target) => void
  /** etcd cannot take it. `false` if there is nothing of it that could be given up. */
  readonly giveUp: (target: Target) => boolean
}

interface Waiting {
  readonly version: number
  readonly done: Deferred.Deferred<void, EtcdError | NotFound>
}

export const make = (service: ServiceInfo, encode: (service: ServiceInfo) => string): Desired => {
  let present: Target = { service, value: encode(service), version: 0 }
  /** The last one that etcd accepted. */
  let accepted = present
  let waiting: ReadonlyArray<Waiting> = []

  const withMetadata = (metadata: Metadata, version: number): Target => {
    const service = { ...present.service, metadata }
    return { service, value: encode(service), version }
  }

  return {
    present: () => present,
    change: (next) => {
      const done = Deferred.unsafeMake<void, EtcdError | NotFound>(FiberId.none)
      present = withMetadata(next(present.service.metadata), present.version + 1)
      waiting = [...waiting, { version: present.version, done }]
      return Deferred.await(done)
    },
    isAwaited: () => waiting.length > 0,
    answer: (version, result) =>
      Effect.suspend(() => {
        const answered = waiting.filter((update) => update.version <= version)
        waiting = waiting.filter((update) => update.version > version)
        return Effect.forEach(answered, ({ done }) => Deferred.complete(done, result), { discard: true })
      }),
    accepted: (target) => {
      accepted = target
    },
    giveUp: (target) => {
      if (target === accepted) return false
      if (target === present) {
        // Weight and draining were asked for apart, and it may not be them that etcd cannot take.
        const metadata = Traits.withTraitsOf(accepted.service.metadata, target.service.metadata)
        const without = withMetadata(metadata, target.version)
        present = without.value === target.value || without.value === accepted.value ? accepted : without
      }
      return true
    }
  }
}
