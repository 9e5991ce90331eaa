/**
 * Coordination for Effect applications over etcd: distributed locks, a service registry, and configuration.
 *
 * @since 0.1.0
 */

/**
 * @since 0.1.0
 */
export * as Config from "./Config.js"

/**
 * @since 0.1.0
 */
export * as ConfigError from "./ConfigError.js"

/**
 * @since 0.1.0
 */
export * as ConfigLayers from "./ConfigLayers.js"

/**
 * @since 0.1.0
 */
export * as ConfigManager from "./ConfigManager.js"

/**
 * @since 0.1.0
 */
export * as Coord from "./Coord.js"

/**
 * @since 0.1.0
 */
export * as Election from "./Election.js"

/**
 * @since 0.1.0
 */
export * as EtcdClient from "./EtcdClient.js"

/**
 * @since 0.1.0
 */
export * as EtcdError from "./EtcdError.js"

/**
 * @since 0.1.0
 */
export * as InstanceId from "./InstanceId.js"

/**
 * @since 0.1.0
 */
export * as Key from "./Key.js"

/**
 * @since 0.1.0
 */
export * as Lock from "./Lock.js"

/**
 * @since 0.1.0
 */
export * as LockError from "./LockError.js"

/**
 * @since 0.1.0
 */
export * as Mirror from "./Mirror.js"

/**
 * @since 0.1.0
 */
export * as ReadWriteLock from "./ReadWriteLock.js"

/**
 * @since 0.1.0
 */
export * as Registry from "./Registry.js"

/**
 * @since 0.1.0
 */
export * as Semaphore from "./Semaphore.js"

/**
 * @since 0.1.0
 */
export * as Session from "./Session.js"

/**
 * @since 0.1.0
 */
export * as Singleton from "./Singleton.js"

/**
 * @since 0.1.0
 */
export * as Txn from "./Txn.js"
