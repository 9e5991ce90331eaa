/**
 * Endpoints in the forms people write them: `host`, `host:port`, `[::1]:2379`, `http://…`, `https://…`, `unix:///path`,
 * several separated by commas.
 */
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import { isIPv6 } from "node:net"
import { InvalidArgument } from "../../EtcdError.js"

export interface Endpoint {
  /** As shown in errors and in health: `host:port`, or the socket's path. */
  readonly name: string
  /** What grpc-js dials. */
  readonly target: string
  readonly tls: boolean
}

const defaultPort = 2379

const refuse = (value: string, problem: string): Either.Either<never, InvalidArgument> =>
  Either.left(new InvalidArgument({ argument: "endpoints", value, problem }))

const hostName = /^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$/

const parsePort = (text: string | undefined): number | undefined => {
  if (text === undefined) return defaultPort
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  return port >= 1 && port <= 65535 ? port : undefined
}

const parseAuthority = (text: string): readonly [host: string, port: string | undefined] | undefined => {
  const bracketed = /^\[([^\]]+)\](?::(.*))?$/.exec(text)
  if (bracketed) return isIPv6(bracketed[1]) ? [`[${bracketed[1]}]`, bracketed[2]] : undefined
  if (text.split(":").length > 2) return isIPv6(text) ? [`[${text}]`, undefined] : undefined
  const [host, port] = text.split(":")
  return hostName.test(host) ? [host, port] : undefined
}

const parseOne = (text: string, tlsByDefault: boolean): Either.Either<Endpoint, InvalidArgument> => {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(text)?.[1].toLowerCase()
  const rest = scheme === undefined ? text : text.slice(scheme.length + 3)
  if (scheme === "unix" || scheme === "unixs") {
    if (!rest.startsWith("/")) {
      return refuse(text, "a unix endpoint needs an absolute path, as in unix:///run/etcd.sock")
    }
    return Either.right({ name: rest, target: `unix:${rest}`, tls: scheme === "unixs" || tlsByDefault })
  }
  if (scheme !== undefined && scheme !== "http" && scheme !== "https") {
    return refuse(text, "the scheme must be http, https or unix")
  }
  if (scheme === "http" && tlsByDefault) return refuse(text, "http:// contradicts the tls option; write https://")
  const authority = rest.replace(/\/$/, "")
  const parsed = parseAuthority(authority)
  if (parsed === undefined) return refuse(text, "expected host, host:port or a URL of these")
  const port = parsePort(parsed[1])
  if (port === undefined) return refuse(text, "the port must be a number from 1 to 65535")
  const name = `${parsed[0]}:${port}`
  return Either.right({ name, target: `dns:${name}`, tls: scheme === "https" || tlsByDefault })
}

export const parseEndpoints = (
  input: string | ReadonlyArray<string>,
  tlsByDefault: boolean
): Either.Either<ReadonlyArray<Endpoint>, InvalidArgument> => {
  if (typeof input !== "string" && !(Array.isArray(input) && input.every(Predicate.isString))) {
    return refuse(typeof input, "must be a text or an array of texts")
  }
  const texts = (typeof input === "string" ? [input] : input)
    .flatMap((text) => text.split(","))
    .map((text) => text.trim())
  // Before any other check: a password must not be shown in an error, nor the part of it before a comma.
  if (texts.some((text) => text.includes("@") && !/^unixs?:\/\/\//i.test(text))) {
    return refuse("…@…", "credentials go into the auth option")
  }
  if (texts.length === 0) return refuse("", "at least one endpoint is needed")
  return Either.all(
    texts.map((text) => text === "" ? refuse(text, "an endpoint must not be empty") : parseOne(text, tlsByDefault))
  ).pipe(Either.map((endpoints) => {
    const names = new Set<string>()
    return endpoints.filter(({ name }) => !names.has(name) && names.add(name))
  }))
}
