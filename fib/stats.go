package fib

import "time"

// Stats counts the work of a Table since it was made.
type Stats struct {
	Added          uint64 // routes created
	Changed        uint64 // routes replaced
	Deleted        uint64 // routes removed
	Moved          uint64 // routes changed by changing their nexthop object in place, without a write of their own
	Objects        uint64 // nexthop objects and groups written
	ObjectsDeleted uint64
	Drift          uint64 // routes believed to be installed that the kernel had lost or held differently
	Errors         uint64 // refusals, attempts at the same route counted each
	Resyncs        uint64
	LastResync     time.Duration // how long the latest Resync took
	Desired        int           // routes desired now
	Failing        int           // desired and not installed, pending ones included
	Stale          int           // of a previous run, not desired (yet), kept until AllowSweep
	Nexthops       int           // nexthop objects the kernel holds
}

// Written returns how many changes of routes the kernel has confirmed.
func (s Stats) Written() uint64 { return s.Added + s.Changed + s.Deleted + s.Moved }
