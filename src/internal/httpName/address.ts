/** Where an instance is: URLs of a service, made absolute. */
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type { ServiceInfo } from "../../Registry.js"

/** `http://10.0.0.7:8080` */
export const origin = (protocol: "http" | "https", { address, port }: ServiceInfo): string =>
  `${protocol}://${address.includes(":") && !address.startsWith("[") ? `[${address}]` : address}:${port}`

export const isAbsolute = (url: string): boolean => /^[a-z][a-z0-9+.-]*:\/\//i.test(url)

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
