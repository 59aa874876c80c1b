// Package rtnl reads and writes the messages of rtnetlink (rtnetlink(7)): the
// header, the fixed parts and the attributes of routes, links, addresses,
// neighbours, nexthop objects and policy rules. One file holds one object of the
// kernel.
//
// It opens no socket and contains nothing of onlink's: package fib writes routes
// with it, fib/underlay reads the kernel's notifications, and cni makes pods'
// interfaces. Reading never fails on a malformed message and never reads beyond
// its end: it stops where a length contradicts the bytes.
package rtnl

import "encoding/binary"

// native is the byte order of netlink: the machine's own (netlink(7)).
var native = binary.NativeEndian

// align rounds a length up to the four bytes that messages, attributes and
// struct rtnexthop begin at.
func align(n int) int { return (n + 3) &^ 3 }
