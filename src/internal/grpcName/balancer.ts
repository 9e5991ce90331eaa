/**
 * A balancer for grpc-js that knows of weights, zones and draining. It keeps a connection to every instance, so that the
 * next one is at hand when one is lost; which of them takes a call is decided for each call.
 */
import * as grpc from "@grpc/grpc-js"
import type { Candidate, Zone } from "../registry/pick.js"
import * as Pick from "../registry/pick.js"
import type { InstanceEndpoint } from "./endpoints.js"
import { isInstanceEndpoint } from "./endpoints.js"

type Helper = grpc.experimental.ChannelControlHelper

const { CONNECTING, IDLE, READY, TRANSIENT_FAILURE } = grpc.connectivityState

export const name = "effect_coord_weighted"

/** In a service config: `{ "effect_coord_weighted": { "zone": "a", "minReadyInZone": 2 } }`. */
class Config implements grpc.experimental.TypedLoadBalancingConfig, Zone {
  readonly zone: string | undefined
  readonly minReadyInZone: number | undefined

  constructor({ minReadyInZone, zone }: Zone) {
    this.zone = zone
    this.minReadyInZone = minReadyInZone
  }

  getLoadBalancerName(): string {
    return name
  }

  toJsonObject(): object {
    return { [name]: { zone: this.zone, minReadyInZone: this.minReadyInZone } }
  }

  static createFromJson(json: { readonly zone?: unknown; readonly minReadyInZone?: unknown }): Config {
    const { minReadyInZone, zone } = json
    if (zone !== undefined && typeof zone !== "string") throw new Error("zone must be a string")
    if (minReadyInZone !== undefined && typeof minReadyInZone !== "number") {
      throw new Error("minReadyInZone must be a number")
    }
    return new Config({ zone, minReadyInZone })
  }
}

/** An instance with its connection. */
class Child implements Candidate {
  endpoint: InstanceEndpoint
  credit: number
  readonly connection: grpc.experimental.LeafLoadBalancer

  constructor(endpoint: InstanceEndpoint, connection: grpc.experimental.LeafLoadBalancer) {
    this.endpoint = endpoint
    this.connection = connection
    this.credit = Pick.initialCredit(endpoint.weight, Math.random())
  }

  get weight(): number {
    return this.endpoint.weight
  }

  get zone(): string | undefined {
    return this.endpoint.zone
  }

  get draining(): boolean {
    return this.endpoint.draining
  }

  is(state: grpc.connectivityState): boolean {
    return this.connection.getConnectivityState() === state
  }
}

class Balancer implements grpc.experimental.LoadBalancer {
  private readonly helper: Helper
  private children: ReadonlyMap<string, Child> = new Map()
  private config: Zone = { zone: undefined, minReadyInZone: undefined }
  private lastError = ""
  /** While the list of children changes, what they report waits for the end of it. */
  private paused = false

  constructor(helper: Helper) {
    this.helper = helper
  }

  updateAddressList(
    endpoints: grpc.experimental.StatusOr<Array<grpc.experimental.Endpoint>>,
    config: grpc.experimental.TypedLoadBalancingConfig,
    options: grpc.ChannelOptions,
    note: string
  ): boolean {
    if (!(config instanceof Config)) return false
    if (!endpoints.ok) {
      // What was found before goes on serving.
      if (this.children.size === 0) this.fail(endpoints.error.details)
      return true
    }
    this.config = config
    this.paused = true
    const before = this.children
    const fresh: Array<Child> = []
    const children = new Map<string, Child>()
    for (const endpoint of endpoints.value.filter(isInstanceEndpoint)) {
      const key = grpc.experimental.endpointToString(endpoint)
      const known = before.get(key)
      const child = known ?? this.connect(endpoint, options, note)
      // Its connection stays, whatever else has changed.
      child.endpoint = endpoint
      if (known === undefined) fresh.push(child)
      children.set(key, child)
    }
    this.children = children
    for (const [key, child] of before) {
      if (!children.has(key)) child.connection.destroy()
    }
    for (const { connection } of fresh) connection.startConnecting()
    this.paused = false
    this.update()
    return true
  }

  private connect(endpoint: InstanceEndpoint, options: grpc.ChannelOptions, note: string): Child {
    const helper = grpc.experimental.createChildChannelControlHelper(this.helper, {
      updateState: (_state, _picker, error) => {
        if (error !== null) this.lastError = error
        this.update()
      },
      // The resolver tells of changes by itself.
      requestReresolution: () => {}
    })
    return new Child(endpoint, new grpc.experimental.LeafLoadBalancer(endpoint, helper, options, note))
  }

  private update(): void {
    if (this.paused) return
    const all = Array.from(this.children.values())
    const ready = all.filter((child) => child.is(READY))
    if (ready.length > 0) {
      const chosen = Pick.choose(all, ready, this.config)
      // Never nobody, and those who are ready are there.
      const pick = (): Child => Pick.next(chosen) ?? chosen[0]
      this.helper.updateState(READY, { pick: (args) => pick().connection.getPicker().pick(args) }, null)
    } else if (all.some((child) => child.is(CONNECTING) || child.is(IDLE))) {
      this.helper.updateState(CONNECTING, new grpc.experimental.QueuePicker(this), null)
    } else {
      this.fail(all.length === 0 ? "no instances" : `no instance can be reached: ${this.lastError}`)
    }
    this.exitIdle()
  }

  private fail(details: string): void {
    this.helper.updateState(
      TRANSIENT_FAILURE,
      new grpc.experimental.UnavailablePicker({ code: grpc.status.UNAVAILABLE, details }),
      details
    )
  }

  /** All are to be connected, always. */
  exitIdle(): void {
    for (const child of Array.from(this.children.values())) {
      if (child.is(IDLE)) child.connection.exitIdle()
    }
  }

  resetBackoff(): void {}

  destroy(): void {
    const { children } = this
    this.children = new Map()
    for (const { connection } of children.values()) connection.destroy()
  }

  getTypeName(): string {
    return name
  }
}

/** The same for all, however often: a second time changes nothing. */
export const register = (): void => grpc.experimental.registerLoadBalancerType(name, Balancer, Config)
