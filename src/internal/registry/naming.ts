/**
 * Entries as etcd's own packages for gRPC have them (`go.etcd.io/etcd/client/v3/naming/endpoints`): an address, and whatever
 * its owner wants to tell, anywhere below a target.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { InvalidArgument } from "../../EtcdError.js"
import * as Key from "../../Key.js"
import { toBinary, toText } from "../bytes.js"
import { render } from "../validate.js"
import { host, hostAndPort } from "./address.js"
import type { Folder, Layout } from "./entry.js"
import { jsonMembers, reading } from "./entry.js"
import { ServiceInfo } from "./model.js"

/** As Go marshals `endpoints.Update`; metadata that there are none of are `null`. */
export const encode = (service: ServiceInfo): string => {
  const metadata = jsonMembers(service.metadata)
  return `{"Op":0,"Addr":${JSON.stringify(hostAndPort(service))},"Metadata":${metadata === "{}" ? "null" : metadata}}`
}

const Endpoint = Schema.parseJson(Schema.Struct({ Addr: Schema.String, Metadata: Schema.optional(Schema.Unknown) }))
const decodeEndpoint = Schema.decodeUnknownEither(Endpoint)
const decodeService = Schema.decodeUnknownEither(ServiceInfo)

const asText = (value: unknown): string => typeof value === "string" ? value : JSON.stringify(value)

/** Names and texts; what is something else altogether gets a name. */
const textsOf = (metadata: unknown): Record<string, string> =>
  metadata === undefined || metadata === null
    ? {}
    : typeof metadata === "object" && !Array.isArray(metadata)
    ? Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, asText(value)]))
    : { Metadata: asText(metadata) }

const decode = (name: string, id: string, value: Uint8Array): Either.Either<ServiceInfo, string> =>
  reading(() =>
    Either.flatMap(
      decodeEndpoint(toText(value)),
      ({ Addr, Metadata }): Either.Either<ServiceInfo, ParseResult.ParseError> => {
        const [, address = Addr, port = ""] = /^(.*):(\d+)$/s.exec(Addr) ?? []
        return decodeService({
          id,
          name,
          address: host(address),
          port: port === "" ? undefined : Number(port),
          metadata: textsOf(Metadata)
        })
      }
    )
  )

/** `<target>/<id>`, the target being the name, or `<prefix>/<name>`. Refuses a prefix that keys cannot begin with. */
export const layout = (prefix = ""): Effect.Effect<Layout, InvalidArgument> =>
  (prefix === ""
    ? Either.right(prefix)
    : Key.validate("prefix", typeof prefix === "string" ? prefix.replace(/^\//, "") : prefix)).pipe(
      Either.mapLeft(({ problem }) => new InvalidArgument({ argument: "prefix", value: render(prefix), problem })),
      Effect.as<Layout>({
        all: Key.prefix(prefix === "" ? "" : `${prefix}/`),
        folder: (name): Folder => {
          const folder = prefix === "" ? `${name}/` : `${prefix}/${name}/`
          const start = toBinary(folder)
          return {
            range: Key.prefix(folder),
            has: (key) => {
              const binary = toBinary(key)
              return binary.length > start.length && binary.startsWith(start)
            },
            decode: ({ key, value }) => decode(name, toText(key).slice(folder.length), value)
          }
        },
        key: (name, id) => `${prefix === "" ? "" : `${prefix}/`}${name}/${id}`,
        parse: ({ key, value }) => {
          const path = toText(key).slice(prefix === "" ? 0 : prefix.length + 1)
          const end = path.lastIndexOf("/")
          const parsed = { name: path.slice(0, end), id: path.slice(end + 1) }
          // Others keep their keys here as well.
          return end > 0 && Either.isRight(decode(parsed.name, parsed.id, value)) ? parsed : undefined
        },
        encode
      })
    )
