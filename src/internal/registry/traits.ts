/** What balancers read of an instance: its weight, its zone, whether it drains. It travels in the metadata. */
import * as Option from "effect/Option"
import type { ServiceInfo } from "./model.js"

/** The names in the metadata. Go's `coord` passes them over. */
export const names = { weight: "coord.weight", zone: "coord.zone", draining: "coord.draining" } as const

export const maxWeight = 1_000_000

const get = ({ metadata }: Pick<ServiceInfo, "metadata">, name: string): string | undefined =>
  Object.hasOwn(metadata, name) ? metadata[name] : undefined

/** How many calls it is to get, in proportion to others: from 0 to 1,000,000. 1 where nothing sensible is written. */
export const weight = (service: Pick<ServiceInfo, "metadata">): number => {
  const text = get(service, names.weight)
  if (text === undefined || text.trim() === "") return 1
  const number = Number(text)
  return number >= 0 && number <= maxWeight ? number : 1
}

export const zone = (service: Pick<ServiceInfo, "metadata">): Option.Option<string> =>
  Option.filter(Option.fromNullable(get(service, names.zone)), (zone) => zone !== "")

export const isDraining = (service: Pick<ServiceInfo, "metadata">): boolean =>
  get(service, names.draining) === "true"
