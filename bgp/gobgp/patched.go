package gobgp

import (
	"net/netip"
	"runtime/debug"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// module is the module path of the engine.
const module = "github.com/osrg/gobgp/v3"

// Version returns the name and version of the engine in this binary, as the
// build recorded it, and whether it is patched: "gobgp v3.37.0 patched" or
// "gobgp v3.37.0 unpatched".
func Version() string {
	state := " unpatched"
	if Patched() {
		state = " patched"
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "gobgp (version not recorded in this binary)" + state
	}
	for _, m := range info.Deps {
		if m.Path == module {
			return "gobgp " + m.Version + state
		}
	}
	return "gobgp (version not recorded in this binary)" + state
}

// Patched reports whether the engine in this binary is the patched one. A
// message of a peer can make an unpatched engine panic.
func Patched() bool {
	_, ok := any((*server.BgpServer)(nil)).(bestWatcher)
	return ok
}

// bestWatcher is an addition of a patched engine: best paths without a detour over
// protobuf. Both functions run on the engine's main goroutine.
type bestWatcher interface {
	WatchBestSets(set func(prefix netip.Prefix, paths []Path), flush func()) (stop func())
}

// importer is an addition of a patched engine: a check of the paths that policy
// accepts, and another import of some prefixes.
type importer interface {
	SetImportCheck(check func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)) error
	ImportAgain(match func(netip.Prefix) bool) error
}

// receiver is an addition of a patched engine: the announcements of peers before
// import policy, and two numbers that are the same as long as they are.
type receiver interface {
	Received() (changes uint64, paths int, err error)
	EachReceived(match func(netip.Prefix) bool, fn func(peer netip.Addr, peerAS uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface)) error
}

// contestant is an addition of a patched engine: the held prefixes with several
// next hops.
type contestant interface {
	EachContested(fn func(prefix netip.Prefix, hops []netip.Addr)) error
}

// exporter is an addition of a patched engine: another export of some prefixes.
type exporter interface {
	ExportAgain(match func(netip.Prefix) bool) error
}

// withholder is an addition of a patched engine: the routes that do not fit into a
// message to a peer.
type withholder interface {
	EachWithheld(fn func(peer netip.Addr, prefix netip.Prefix, why string)) error
}

// ChecksImport reports whether SetImportCheck has an effect.
func (e *Engine) ChecksImport() bool {
	_, able := any(e.server).(importer)
	return able
}

// SetImportCheck makes the engine call check for every path that policy accepts,
// with the announced next hop and the one that policy set; held means that the
// prefix stays with the node that announced it first. check runs on the engine's
// main goroutine and must not block. An unpatched engine never calls it.
func (e *Engine) SetImportCheck(check func(peer netip.Addr, prefix netip.Prefix, announced, hop netip.Addr) (ok, held bool)) error {
	if i, able := any(e.server).(importer); able {
		return i.SetImportCheck(check)
	}
	return nil
}

// ImportAgain applies import policy and check again to the received routes to the
// prefixes that match. An unpatched engine does nothing.
func (e *Engine) ImportAgain(match func(netip.Prefix) bool) error {
	if i, able := any(e.server).(importer); able {
		return i.ImportAgain(match)
	}
	return nil
}

// ExportAgain applies the export policy again to the prefixes that match, and sends
// the peers what differs. match runs on the engine's main goroutine. An unpatched
// engine evaluates all prefixes, and sends all of them again.
func (e *Engine) ExportAgain(match func(netip.Prefix) bool) error {
	if x, able := any(e.server).(exporter); able {
		return x.ExportAgain(match)
	}
	return e.SoftReset(netip.Addr{}, Out)
}

// KeepsReceived reports whether EachReceived has an effect.
func (e *Engine) KeepsReceived() bool {
	_, able := any(e.server).(receiver)
	return able
}

// Received identifies the announcements of peers: as long as it is the same, so
// are those of EachReceived. The zero value is of an unpatched engine.
type Received struct {
	changes uint64
	paths   int
}

// Received returns the identity of the present announcements.
func (e *Engine) Received() (r Received, err error) {
	if i, able := any(e.server).(receiver); able {
		r.changes, r.paths, err = i.Received()
	}
	return r, err
}

// EachReceived calls fn with the announcements of peers, before import policy, for
// the prefixes that match. Both run on the engine's main goroutine. An unpatched
// engine calls neither.
func (e *Engine) EachReceived(match func(netip.Prefix) bool, fn func(peer netip.Addr, prefix netip.Prefix, attrs Attributes)) error {
	r, able := any(e.server).(receiver)
	if !able {
		return nil
	}
	return r.EachReceived(match, func(peer netip.Addr, _ uint32, prefix netip.Prefix, attrs []bgp.PathAttributeInterface) {
		fn(peer, prefix, attrs)
	})
}

// EachContested calls fn with the held prefixes that several nodes announce. An
// unpatched engine never calls it.
func (e *Engine) EachContested(fn func(prefix netip.Prefix, hops []netip.Addr)) error {
	if c, able := any(e.server).(contestant); able {
		return c.EachContested(fn)
	}
	return nil
}

// EachWithheld calls fn with the routes that do not fit into a message to a peer.
// An unpatched engine never calls it.
func (e *Engine) EachWithheld(fn func(peer netip.Addr, prefix netip.Prefix, why string)) error {
	if w, able := any(e.server).(withholder); able {
		return w.EachWithheld(fn)
	}
	return nil
}
