package bmp

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is the configuration of the stations of a node.
type Config struct {
	Source Source
	// Name and Descr are the node's name and its software, for the collector.
	Name, Descr string
	ASN         uint32 // this node's, which the Loc-RIB is of
	RouterID    netip.Addr
	Log         *slog.Logger
	Stations    []Settings // at the start

	// retry and write are firstRetry and WriteTime; tests have shorter ones.
	retry, write time.Duration
}
