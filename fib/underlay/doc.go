// Package underlay resolves BGP next hops by the kernel's FIB without onlink's
// own routes, and reports changes of the outcome.
//
// It keeps a copy of the kernel's routes of tables local and main, of links and
// of addresses, leaving out routes of protocol 179 and everything over onlink's
// own devices. It answers from the copy by longest prefix match, as the kernel
// would (ip-route(8), fib_lookup), so a look-up costs no system call. A hop over
// a device that is down or has no carrier does not count: a shorter prefix is
// tried, as the kernel does with net.ipv4.conf.*.ignore_routes_with_linkdown set.
//
// Links and addresses follow their notifications. Routes are listed again after
// any notification that may concern them, because the kernel removes IPv4 routes
// silently when a device goes down or an address goes away; the notification only
// shows that the copy is old. A lost notification (ENOBUFS), an interrupted dump
// (EINTR) or a dead socket lead to a new list of everything. A socket filter
// keeps the echo of our own routes away.
//
// Any number of goroutines may query a [Watcher]; [Watcher.Load] and
// [Watcher.Run] belong to one.
package underlay
