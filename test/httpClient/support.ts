/** A registry over the embedded etcd, and clients of `@effect/platform` that answer what the test says. */
import * as HttpClient from "@effect/platform/HttpClient"
import { RequestError } from "@effect/platform/HttpClientError"
import type { HttpClientRequest } from "@effect/platform/HttpClientRequest"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { EtcdClient } from "../../src/EtcdClient.js"
import type { InvalidArgument } from "../../src/EtcdError.js"
import * as Registry from "../../src/Registry.js"
import * as Session from "../../src/Session.js"
import * as TestEtcd from "../../src/testing.js"

export const services: Layer.Layer<
  Registry.Registry | Session.Sessions | EtcdClient | TestEtcd.TestEtcd,
  InvalidArgument
> = Registry.layer().pipe(
  Layer.provideMerge(Session.layer),
  Layer.provideMerge(TestEtcd.client()),
  Layer.provideMerge(TestEtcd.layer())
)

export const name = "user"

/** An instance called `a` is at `a:80`. */
export const register = (id: string, service: Partial<Registry.ServiceInput> = {}) =>
  Registry.register({ id, name, address: id, port: 80, ...service }, { ttl: "1 hour" })

/** Lets everything happen that needs no time. */
const settle = Effect.forEach(Array.from({ length: 100 }), () => Effect.yieldNow(), { discard: true })

/** Waits, without time passing, until the instances are these, and until all who follow them have heard of it. */
export const known = (...ids: ReadonlyArray<string>) =>
  eventually(
    `${ids.join(", ")} are known`,
    Effect.map(
      Registry.instancesState(name),
      ({ instances }) => instances.map(({ id }) => id).sort().join() === Array.from(ids).sort().join()
    )
  ).pipe(Effect.zipRight(settle))

/** Waits, without time passing, until a condition holds. */
export const eventually = <E, R>(what: string, condition: Effect.Effect<boolean, E, R>): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let i = 0; i < 2_000; i++) {
      if (yield* condition) return
      yield* Effect.yieldNow()
    }
    assert.fail(`never: ${what}`)
  })

/** The failure of a socket, as Node tells it. */
export const socketError = (code: string, syscall?: string): Error =>
  Object.assign(new Error(code), { code, ...(syscall === undefined ? {} : { syscall }) })

export const refused = socketError("ECONNREFUSED", "connect")
export const reset = socketError("ECONNRESET")

export interface Sent {
  readonly request: HttpClientRequest
  readonly url: URL
}

type Answer = (sent: Sent) => Effect.Effect<Response, Error>

export const ok: Answer = () => Effect.sync(() => new Response("ok"))

/** A client without a network: it keeps what was sent, and answers as each host is told to. */
export class Network {
  readonly sent: Array<Sent> = []
  readonly #answers = new Map<string, Answer>()

  /** From now on. */
  answer(host: string, answer: Answer): void {
    this.#answers.set(host, answer)
  }

  fail(host: string, error: Error): void {
    this.answer(host, () => Effect.fail(error))
  }

  readonly client: HttpClient.HttpClient = HttpClient.make((request, url) =>
    Effect.suspend(() => {
      const sent = { request, url }
      this.sent.push(sent)
      return (this.#answers.get(url.hostname) ?? ok)(sent)
    }).pipe(
      Effect.mapBoth({
        onSuccess: (response) => HttpClientResponse.fromWeb(request, response),
        onFailure: (cause) => new RequestError({ request, reason: "Transport", cause })
      })
    )
  )

  readonly layer: Layer.Layer<HttpClient.HttpClient> = Layer.succeed(HttpClient.HttpClient, this.client)

  /** How many requests each host got since the last count. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {}
    for (const { url } of this.sent.splice(0)) counts[url.hostname] = (counts[url.hostname] ?? 0) + 1
    return counts
  }
}

export const times = <A, E, R>(count: number, effect: Effect.Effect<A, E, R>): Effect.Effect<ReadonlyArray<A>, E, R> =>
  Effect.forEach(Array.from({ length: count }), () => effect)
