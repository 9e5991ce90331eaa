/** A service's entry in etcd: its key, and its value to and from the bytes that Go's `coord` reads and writes. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { identity } from "effect/Function"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import type { KeyRange, KeyValue } from "../../Txn.js"
import { toBinary, toText } from "../bytes.js"
import * as validate from "../validate.js"
import type { ServiceInput } from "./model.js"
import { ServiceInfo } from "./model.js"
import * as Traits from "./traits.js"

const byBytes = (a: string, b: string): number => {
  const [left, right] = [toBinary(a), toBinary(b)]
  return left < right ? -1 : left > right ? 1 : 0
}

/** As Go marshals a map: by key. An object of ours would move keys that look like numbers to the front. */
export const jsonMembers = (texts: { readonly [name: string]: string }): string =>
  `{${Object.keys(texts).sort(byBytes).map((key) => `${JSON.stringify(key)}:${JSON.stringify(texts[key])}`).join(",")}}`

/** As Go marshals it: fields in the order of its struct, metadata left out when there are none. */
export const encode = ({ address, id, metadata, name, port }: ServiceInfo): string => {
  const fields = JSON.stringify({ id, name, address, port })
  const members = jsonMembers(metadata)
  return members === "{}" ? fields : `${fields.slice(0, -1)},"metadata":${members}}`
}

const decodeJson = Schema.decodeUnknownEither(Schema.parseJson(ServiceInfo))

/** What is wrong, in one line. */
const problemOf = (error: ParseResult.ParseError): string => {
  const { message, path } = ParseResult.ArrayFormatter.formatErrorSync(error)[0]
  return [...path.map(String), message].join(": ").slice(0, 500)
}

/**
 * The service, or what is wrong with what was read. Whoever may write to etcd may write anything: a value that is nested
 * thousands of levels deep makes Schema, or its account of what is wrong, run out of stack.
 */
export const reading = (
  read: () => Either.Either<ServiceInfo, ParseResult.ParseError>
): Either.Either<ServiceInfo, string> =>
  Either.flatMap(
    Either.try({
      try: () => Either.mapLeft(read(), problemOf),
      catch: (error) => `cannot be read: ${error instanceof Error ? error.message : String(error)}`
    }),
    identity
  )

/** The service, or what is wrong with the value. */
export const decode = (value: Uint8Array): Either.Either<ServiceInfo, string> =>
  reading(() => decodeJson(toText(value)))

const decodeInput = Schema.decodeUnknownEither(ServiceInfo)

const at = (input: unknown, path: ReadonlyArray<PropertyKey>): unknown =>
  path.reduce<unknown>(
    (value, key) => typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined,
    input
  )

/** A service to register, refused with an error that names the field after what the service itself is called. */
export const validateService = (
  input: ServiceInput,
  argument: ReadonlyArray<string>
): Effect.Effect<ServiceInfo, InvalidArgument> => {
  const named = (path: ReadonlyArray<PropertyKey>): string => [...argument, ...path.map(String)].join(".")
  return Either.match(decodeInput(input), {
    onLeft: (error) => {
      const { message, path } = ParseResult.ArrayFormatter.formatErrorSync(error)[0]
      const problem = message.startsWith("Expected") ? `e${message.slice(1)}` : message
      return Effect.fail(
        new InvalidArgument({ argument: named(path), value: validate.render(at(input, path)), problem })
      )
    },
    onRight: (service) =>
      Effect.gen(function*() {
        yield* Key.validateSegment(named(["id"]), service.id)
        yield* Key.validate(named(["name"]), service.name)
        let { metadata } = service
        if (input.weight !== undefined) {
          metadata = Traits.withWeight(metadata, yield* Traits.checkWeight(named(["weight"]), input.weight))
        }
        if (input.zone !== undefined) metadata = yield* Traits.withZone(metadata, named(["zone"]), input.zone)
        return metadata === service.metadata ? service : { ...service, metadata }
      })
  })
}

/** Where the entries of one service stand, and how they are read. */
export interface Folder {
  readonly range: KeyRange
  /** Whether the key is that of an entry of this service. */
  readonly has: (key: Uint8Array) => boolean
  /** The service, or what is wrong with the value. */
  readonly decode: (kv: Pick<KeyValue, "key" | "value">) => Either.Either<ServiceInfo, string>
}

/** Where entries stand, and in which format. */
export interface Layout {
  /** All entries of all services. */
  readonly all: KeyRange & { readonly keysOnly?: boolean }
  readonly folder: (name: string) => Folder
  readonly key: (name: string, id: string) => string
  /** The name and the id of an entry; `undefined` for a key that is none. */
  readonly parse: (kv: Pick<KeyValue, "key" | "value">) => { readonly name: string; readonly id: string } | undefined
  readonly encode: (service: ServiceInfo) => string
}

/** `<prefix>/<name>/<id>`, as Go's `coord` has it. Refuses a prefix that keys cannot begin with. */
export const layout = (prefix: string): Effect.Effect<Layout, InvalidArgument> =>
  validate.keyPrefix("prefix", prefix).pipe(
    Effect.as({
      all: { ...Key.prefix(`${prefix}/`), keysOnly: true },
      folder: (name) => {
        const folder = `${prefix}/${name}/`
        return {
          range: Key.prefix(folder),
          has: (key) => Key.isDirectChild(folder, key),
          decode: ({ value }) => decode(value)
        }
      },
      key: (name, id) => `${prefix}/${name}/${id}`,
      parse: ({ key }) => {
        const segments = toText(key).slice(prefix.length + 1).split("/")
        const id = segments[segments.length - 1]
        return segments.length < 2 || segments.includes("") ? undefined : { name: segments.slice(0, -1).join("/"), id }
      },
      encode
    })
  )
