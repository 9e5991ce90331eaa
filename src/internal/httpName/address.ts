/** Where an instance is: URLs of a service, made absolute. */
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as Effect from "effect/Effect"
import { InvalidArgument } from "../../EtcdError.js"
import type { ServiceInfo } from "../../Registry.js"
import { hostAndPort } from "../registry/address.js"
import { render } from "../validate.js"

/** `http://10.0.0.7:8080` */
export const origin = (protocol: "http" | "https", service: ServiceInfo): string =>
  `${protocol}://${hostAndPort(service)}`

export const isAbsolute = (url: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(url)

export const originOf = (url: string): string | undefined => URL.canParse(url) ? new URL(url).origin : undefined

const withoutEndingSlash = (text: string): string => text.replace(/\/+$/, "")

/**
 * The request to an instance. There is always a slash between the two: with `//host/path` or `@host/path` as its URL a
 * request would go elsewhere.
 */
export const resolve = (
  request: HttpClientRequest.HttpClientRequest,
  origin: string,
  basePath: string
): HttpClientRequest.HttpClientRequest => {
  const path = withoutEndingSlash(basePath)
  const base = path === "" || path.startsWith("/") ? origin + path : `${origin}/${path}`
  const { url } = request
  const slash = url.startsWith("/") || (path !== "" && /^($|[?#])/.test(url)) ? "" : "/"
  return HttpClientRequest.setUrl(request, base + slash + url)
}

/** Refuses what cannot stand before a path. */
export const parseBasePath = (
  basePath: string | ((service: ServiceInfo) => string)
): Effect.Effect<(service: ServiceInfo) => string, InvalidArgument> =>
  typeof basePath === "function"
    ? Effect.succeed(basePath)
    : typeof basePath !== "string" || /[?#\s]/.test(basePath)
    ? new InvalidArgument({ argument: "basePath", value: render(basePath), problem: "must be a path, without ? and #" })
    : Effect.succeed(() => basePath)
