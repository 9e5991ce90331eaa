/** What balancers read of an instance: its weight, its zone, whether it drains. It travels in the metadata. */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { InvalidArgument } from "../../EtcdError.js"
import { render } from "../validate.js"
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

export const isDraining = (service: Pick<ServiceInfo, "metadata">): boolean => get(service, names.draining) === "true"

type Metadata = ServiceInfo["metadata"]

const set = (metadata: Metadata, name: string, value: string | undefined): Metadata => {
  const { [name]: _, ...others } = metadata
  return value === undefined ? others : { ...others, [name]: value }
}

export const checkWeight = (argument: string, weight: number): Either.Either<number, InvalidArgument> =>
  typeof weight === "number" && weight >= 0 && weight <= maxWeight
    ? Either.right(weight)
    : Either.left(
      new InvalidArgument({ argument, value: render(weight), problem: `must be a number from 0 to ${maxWeight}` })
    )

export const withWeight = (metadata: Metadata, weight: number): Metadata => set(metadata, names.weight, String(weight))

export const withZone = (
  metadata: Metadata,
  argument: string,
  zone: string
): Either.Either<Metadata, InvalidArgument> =>
  typeof zone === "string" && /^[^\s\p{Cc}\p{Surrogate}]+$/u.test(zone)
    ? Either.right(set(metadata, names.zone, zone))
    : Either.left(
      new InvalidArgument({
        argument,
        value: render(zone),
        problem: "must not be empty, nor contain blanks or control characters"
      })
    )

export const withDraining = (metadata: Metadata, draining: boolean): Metadata =>
  set(metadata, names.draining, draining ? "true" : undefined)

/** Other metadata with the traits of the old ones, except where the new ones name them. */
export const keep = (old: Metadata, next: Metadata): Metadata => ({
  ...Object.fromEntries(
    Object.values(names).filter((name) => Object.hasOwn(old, name)).map((name) => [name, old[name]])
  ),
  ...next
})

const isTrait = (name: string): boolean => Object.values<string>(names).includes(name)

/** Metadata with the traits of others in place of their own. */
export const withTraitsOf = (metadata: Metadata, others: Metadata): Metadata =>
  Object.fromEntries([
    ...Object.entries(metadata).filter(([name]) => !isTrait(name)),
    ...Object.entries(others).filter(([name]) => isTrait(name))
  ])
