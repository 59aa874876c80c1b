package fib

import (
	"log/slog"
	"math"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"onlink/internal/strictyaml"
)

// Settings are the section `fib` of onlinkd.yaml.
type Settings struct {
	Table  uint32        // routing table
	Metric uint32        // route metric; 0: the kernel's default
	Resync time.Duration // interval of the full comparison with the kernel ([Table.Resync])
	Source netip.Addr    // preferred source address of routes; the zero Addr (auto): the kernel's choice
}

// DefaultSettings are those of a file without the section.
func DefaultSettings() Settings { return Settings{Table: unix.RT_TABLE_MAIN, Resync: 90 * time.Second} }

// Read reads the section; absent keys keep their values.
func (s *Settings) Read(v strictyaml.Value) {
	v.Mapping(strictyaml.Fields{
		"table":  strictyaml.Number(&s.Table, 1, math.MaxUint32),
		"metric": strictyaml.Number(&s.Metric, 0, math.MaxUint32),
		"resync": strictyaml.Duration(&s.Resync, time.Second, 24*time.Hour),
		"source": strictyaml.Addr(&s.Source, "auto"),
	})
}

// Config returns the configuration of a [Table].
func (s Settings) Config(log *slog.Logger) Config {
	c := Config{Table: s.Table, Metric: s.Metric, Log: log}
	if s.Source.Is4() {
		c.Source4 = s.Source
	} else {
		c.Source6 = s.Source
	}
	return c
}
