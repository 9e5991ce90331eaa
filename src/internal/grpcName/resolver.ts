/**
 * `etcd:///service` for grpc-js. Its table of resolvers is one for the whole process, so what stands there is the same for
 * all: it finds the instances through an option of the channel, and channels of different registries do not mix.
 */
import * as grpc from "@grpc/grpc-js"
import type { Construct } from "../socketsOpening.js"
import * as Endpoints from "./endpoints.js"
import type { View } from "./view.js"

type Listener = grpc.experimental.ResolverListener
type Make = (listener: Listener) => grpc.experimental.Resolver

export const scheme = "etcd"

/** Under this prefix, options do not tell one connection from another: none is replaced because of it. */
const option = `${grpc.experimental.SUBCHANNEL_ARGS_EXCLUDE_KEY_PREFIX}.effect-coord`

export interface Options {
  readonly name: string
  readonly view: View
  /** Whether the balancer itself keeps calls from instances that drain. */
  readonly balancerDrains: boolean
  readonly construct: Construct
}

const resolver = ({ balancerDrains, construct, name, view }: Options): Make => (listener) => {
  let stop: (() => void) | undefined
  let scheduled = false
  /** What the listener was told since it asked, to spare it what it knows. */
  let told: string | undefined

  const tellProblem = (details: string): void => {
    told = undefined
    listener(grpc.experimental.statusOrFromError({ code: grpc.status.UNAVAILABLE, details }), {}, null, "")
  }

  const tell = (): void => {
    scheduled = false
    const known = view.current()
    if (stop === undefined || known === undefined) return
    if (known._tag === "Unknown") return tellProblem(known.problem)
    const all = Endpoints.make(known.services, construct)
    const endpoints = balancerDrains ? all : Endpoints.withoutDraining(all)
    const text = JSON.stringify(endpoints)
    if (text === told) return
    told = text
    listener(grpc.experimental.statusOrFromValue(Array.from(endpoints)), {}, null, "")
    if (endpoints.length > 0) return
    // Once their connections are gone, the balancers of grpc-js would let calls wait until their deadlines: only an error
    // ends them at once.
    tellProblem(`no instance of ${name} is registered`)
  }

  // grpc-js must not be called back while it asks.
  const schedule = (): void => {
    if (scheduled) return
    scheduled = true
    process.nextTick(tell)
  }

  return {
    // Balancers ask often. But changes come by themselves: there is something to tell only to who has just begun, or begins
    // again after the channel was idle.
    updateResolution: () => {
      if (stop !== undefined) return
      told = undefined
      stop = view.onChange(schedule)
      schedule()
    },
    destroy: () => {
      stop?.()
      stop = undefined
    }
  }
}

/**
 * What stands for a service in the `:authority` of calls and, by default, in certificates: its name, with `-` for what cannot
 * be part of a host's name.
 */
export const authority = (name: string): string => {
  const clean = name.replace(/[^\w.-]/g, "-")
  // What ends in a number is taken for an IPv4 address.
  const candidates = [clean, `service-${clean.replaceAll(".", "-")}`]
  return candidates.find((host) => URL.canParse(`http://${host}`)) ?? "service"
}

class Resolver implements grpc.experimental.Resolver {
  readonly updateResolution: () => void
  readonly destroy: () => void

  constructor(target: grpc.experimental.GrpcUri, listener: Listener, options: grpc.ChannelOptions) {
    const make: Make | undefined = options[option]
    if (make === undefined) {
      throw new Error(
        `${grpc.experimental.uriToString(target)} belongs to a registry: open it with Grpc.getConnection or Grpc.client`
      )
    }
    const { destroy, updateResolution } = make(listener)
    this.updateResolution = updateResolution
    this.destroy = destroy
  }

  static getDefaultAuthority({ path }: grpc.experimental.GrpcUri): string {
    return authority(path)
  }
}

/** The same for all, however often: a second time changes nothing. */
export const register = (): void => grpc.experimental.registerResolver(scheme, Resolver)

/** The options of a channel by which it finds this service. */
export const channelOptions = (options: Options): grpc.ChannelOptions => ({ [option]: resolver(options) })
