package bmp

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"onlink/internal/strictyaml"
)

// Settings are one entry of the section `bgp.bmp` of onlinkd.yaml.
type Settings struct {
	Name    string // default: address and port
	Address netip.Addr
	Port    uint16 // required: BMP has no port of its own
	// Monitor are the tables whose routes are sent, each once; default: received.
	Monitor []View
	// Statistics is the interval of statistics reports; 0: none.
	Statistics time.Duration
	// SourceAddress is the connection's own address; the zero Addr: the kernel's choice.
	SourceAddress netip.Addr
}

// View names a kind of table.
type View string

// The views.
const (
	Received View = "received" // Adj-RIB-In of each peer before import policy
	Accepted View = "accepted" // the same after import: what policy accepts, as it changed it
	Best     View = "best"     // Loc-RIB (RFC 9069): the best path to each prefix, own ones included
)

// Defaults and bounds of the section.
const (
	DefaultStatistics = time.Minute

	MinStatistics = 10 * time.Second
	MaxStatistics = time.Hour
	// MaxStations bounds the stations: each has a connection and marks of its own.
	MaxStations = 4
)

// ReadSettings reads one entry of the list.
func ReadSettings(v strictyaml.Value) Settings {
	s := Settings{Statistics: DefaultStatistics}
	v.Mapping(strictyaml.Fields{
		"name":          strictyaml.Word(&s.Name),
		"address":       strictyaml.Addr(&s.Address),
		"port":          strictyaml.Number(&s.Port, 1, math.MaxUint16),
		"monitor":       func(v strictyaml.Value) { readViews(v, &s.Monitor) },
		"statistics":    statistics(&s.Statistics),
		"sourceAddress": strictyaml.Addr(&s.SourceAddress),
	})
	if len(s.Monitor) == 0 {
		s.Monitor = []View{Received}
	}
	if s.Name == "" && s.Address.IsValid() {
		s.Name = netip.AddrPortFrom(s.Address, s.Port).String()
	}
	return s
}

func readViews(v strictyaml.Value, dst *[]View) {
	v.List(func(v strictyaml.Value) {
		var one View
		strictyaml.OneOf(&one, Received, Accepted, Best)(v)
		switch {
		case v.Failed():
		case slices.Contains(*dst, one):
			v.Fail("%s is in the list already; remove it", one)
		default:
			*dst = append(*dst, one)
		}
	})
}

// statistics reads an interval, or 0s for none.
func statistics(dst *time.Duration) func(strictyaml.Value) {
	return func(v strictyaml.Value) {
		d := *dst
		strictyaml.Seconds(&d, 0, MaxStatistics)(v)
		if d != 0 && d < MinStatistics {
			v.Fail("%s is out of range; use 0s for no reports, or %s to %s", d, MinStatistics, MaxStatistics)
			return
		}
		*dst = d
	}
}

// Validate adds the contradictions of the list, whose field in the file is path, to
// its mistakes.
func Validate(list []Settings, path string, d *strictyaml.Document) {
	if len(list) > MaxStations {
		d.Fail(path, "has %d stations; use at most %d", len(list), MaxStations)
	}
	names, ends := map[string]int{}, map[netip.AddrPort]int{}
	for i, s := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		s.validate(at, d)
		if first, dup := names[s.Name]; dup && s.Name != "" {
			d.Fail(at+".name", "%q is also the name of %s[%d]; use another", s.Name, path, first)
		}
		end := netip.AddrPortFrom(s.Address, s.Port)
		if first, dup := ends[end]; dup && end.IsValid() {
			d.Fail(at+".address", "%s is also the station %s[%d]; remove one, its monitor may list several tables", end, path, first)
		}
		names[s.Name], ends[end] = i, i
	}
}

func (s *Settings) validate(path string, d *strictyaml.Document) {
	missing := func(key, remedy string) {
		if !d.Failed(path) && !d.Failed(path+"."+key) {
			d.Fail(path+"."+key, "is missing; write %s", remedy)
		}
	}
	switch {
	case !s.Address.IsValid():
		missing("address", "the IP address of the collector")
	case s.Address.IsUnspecified() || s.Address.IsMulticast():
		d.Fail(path+".address", "%s is not the address of a collector; write its own", s.Address)
	}
	if s.Port == 0 {
		missing("port", "the TCP port of the collector: BMP has none of its own, and many collectors use 11019 or 5000")
	}
	if s.SourceAddress.IsValid() && s.Address.IsValid() && s.SourceAddress.Is4() != s.Address.Is4() {
		d.Fail(path+".sourceAddress", "%s is of another family than the station's address %s; use one of the same, or remove it", s.SourceAddress, s.Address)
	}
}

// endpoint returns the address that the station is at.
func (s *Settings) endpoint() netip.AddrPort { return netip.AddrPortFrom(s.Address, s.Port) }

// equal reports whether a station with these settings needs no new connection.
func (s *Settings) equal(o *Settings) bool {
	return s.Name == o.Name && s.Address == o.Address && s.Port == o.Port && slices.Equal(s.Monitor, o.Monitor) &&
		s.Statistics == o.Statistics && s.SourceAddress == o.SourceAddress
}
