// Package dataplane keeps the kernel state that routes need beside themselves:
// tunnel devices with their entries for each other node; the nftables tables,
// which accept tunnelled packets and masquerade; settings of the host; the MTU of
// pods. State that a route needs exists before the route, and goes after it.
//
// A [Plane] belongs to the learn loop. Methods that other goroutines may call
// are marked. A [Host] has a goroutine of its own.
package dataplane

import (
	"context"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"onlink/agent/state"
	"onlink/internal/ours"
	"onlink/rib"
	"onlink/tunnel"
)

// RepairEvery is the interval of Ensure, besides link events: it repairs foreign
// changes and retries failures.
const RepairEvery = 2 * time.Second

// Links is the plane's view of the node's links: an
// [onlink/fib/underlay.Watcher].
type Links interface {
	// LinkFor returns the device that has an address, and its MTU; 0 when no
	// device has it.
	LinkFor(addr netip.Addr) (dev string, mtu int)
}

// Tunnels makes tunnel devices: a [tunnel.Ensurer].
type Tunnels interface {
	Ensure(ctx context.Context, desired []tunnel.Desired) ([]tunnel.Device, error)
	Foreign() []string
	AddNodes(ctx context.Context, d tunnel.Desired, nodes []netip.Addr) error
	KeepNodes(ctx context.Context, d tunnel.Desired, nodes []netip.Addr) error
	Remove(ctx context.Context, names []string) error
}

// Routes is the plane's view of the decision: a [rib.Table].
type Routes interface {
	Generation() uint64
	Nodes() []netip.Addr
	Devices() []string
	ReachOf(nextHop netip.Addr) (rib.Reach, bool)
}

// Config is the configuration of a Plane.
type Config struct {
	Log     *slog.Logger
	Links   Links
	Tunnels Tunnels
	Wanted  []tunnel.Desired // devices; their underlay MTU is filled in from Links
	Locals  []netip.Addr     // this node's addresses, zero ones for none
}

// Plane is the kernel state beside the routes.
type Plane struct {
	Filter Filter

	log     *slog.Logger
	links   Links
	tunnels Tunnels
	wanted  []tunnel.Desired
	surplus []string // tunnel devices of another configuration, removed once in sync
	locals  []netip.Addr
	nodes   nodes

	lacking   map[string]bool // desired devices that the last Ensure could not make
	tunnelErr error           // of the last Ensure
	filterErr error           // why the nftables table is not as it should be

	podMTU   atomic.Int64
	mtuMoved chan struct{}            // cap 1; sent to when podMTU changed, never closed
	devices  atomic.Pointer[[]string] // that next hops and peers are reached over
}

// New returns a Plane; nothing is done yet.
func New(c Config) *Plane {
	return &Plane{
		log: c.Log, links: c.Links, tunnels: c.Tunnels, wanted: c.Wanted, locals: c.Locals,
		surplus: unwanted(c.Wanted), mtuMoved: make(chan struct{}, 1),
	}
}

// unwanted names the devices that another configuration may have left.
func unwanted(wanted []tunnel.Desired) []string {
	return slices.DeleteFunc([]string{ours.DeviceIPIP, ours.DeviceIP6, ours.DeviceVXLAN, ours.DeviceVXLAN6}, func(name string) bool {
		return slices.ContainsFunc(wanted, func(d tunnel.Desired) bool { return d.Name == name })
	})
}

// Wanted returns the tunnel devices that the plane keeps.
func (p *Plane) Wanted() []tunnel.Desired { return p.wanted }

// Foreign names the desired devices whose names foreign devices have: no route
// may lead through them.
func (p *Plane) Foreign() []string { return p.tunnels.Foreign() }

// Ensure makes the tunnel devices as they should be and returns those that were
// made anew: the kernel dropped the routes of the old ones.
func (p *Plane) Ensure(ctx context.Context) (renewed []string) {
	for i := range p.wanted {
		// While an address moves from one device to another the tunnel stays.
		if _, mtu := p.links.LinkFor(p.wanted[i].Local); mtu > 0 {
			p.wanted[i].UnderlayMTU = mtu
		}
	}
	devices, err := p.tunnels.Ensure(ctx, p.wanted)
	if err != nil && (p.tunnelErr == nil || err.Error() != p.tunnelErr.Error()) {
		p.log.Error("failed to set up tunnel device", "err", err)
	}
	p.tunnelErr = err
	p.lacking = map[string]bool{}
	for _, d := range p.wanted {
		p.lacking[d.Name] = !slices.ContainsFunc(devices, func(made tunnel.Device) bool { return made.Name == d.Name })
	}
	for _, d := range devices {
		if d.Reset {
			renewed = append(renewed, d.Name)
		}
	}
	if len(renewed) > 0 {
		p.Recheck() // entries went with the device
	}
	p.followMTU()
	return renewed
}

// Features returns which of the desired devices this kernel supports, as of the
// last Ensure.
func (p *Plane) Features() []state.Feature {
	var out []state.Feature
	for _, d := range p.wanted {
		text := ""
		if p.tunnelErr != nil {
			text = p.tunnelErr.Error()
		}
		out = append(out, state.Feature{
			Name: featureName(d), Available: !p.lacking[d.Name], Without: "routes through " + d.Name + " are not installed: " + text,
		})
	}
	return out
}

// featureName is the kernel's name of the device's kind, with distinct names for
// the two VXLAN devices.
func featureName(d tunnel.Desired) string {
	if d.Name == ours.DeviceVXLAN6 {
		return "vxlan6"
	}
	return d.Kind.String()
}

// Loose reports whether tunnels send from an IPv4 address: answers to this node's
// own packets may then arrive by another way than they left, and rp_filter must
// not be strict.
func (p *Plane) Loose() bool {
	return slices.ContainsFunc(p.wanted, func(d tunnel.Desired) bool { return d.Local.Is4() })
}

// Devices returns the devices that next hops and peers are reached over. It may
// be called by any goroutine.
func (p *Plane) Devices() []string {
	if list := p.devices.Load(); list != nil {
		return *list
	}
	return nil
}

// PodMTU returns the MTU of a pod's interface, in bytes: the smallest of the
// tunnels' MTUs, or the underlay's when no tunnel is used. 0 leaves it to the
// kernel. It may be called by any goroutine.
func (p *Plane) PodMTU() int { return int(p.podMTU.Load()) }

// MTUMoved is received from by one goroutine: PodMTU may be another.
func (p *Plane) MTUMoved() <-chan struct{} { return p.mtuMoved }

// followMTU notes the MTU of pods.
func (p *Plane) followMTU() {
	mtu := int64(p.fitting())
	if mtu == 0 || p.podMTU.Swap(mtu) == mtu {
		return
	}
	select {
	case p.mtuMoved <- struct{}{}:
	default: // the receiver has not woken up yet and will read the latest
	}
}

// fitting is the size of packet that fits into the underlay and every tunnel;
// 0: nothing is known yet.
func (p *Plane) fitting() int {
	mtu := math.MaxInt
	for _, a := range p.locals {
		if _, under := p.links.LinkFor(a); under > 0 {
			mtu = min(mtu, under)
		}
	}
	for _, d := range p.wanted {
		switch {
		case d.MTU != 0:
			mtu = min(mtu, d.MTU)
		case d.UnderlayMTU != 0:
			mtu = min(mtu, d.UnderlayMTU-tunnel.Overhead(d.Kind, d.Local))
		}
	}
	if mtu == math.MaxInt {
		return 0
	}
	return mtu
}

// Problems returns the faults, one line each.
func (p *Plane) Problems() []string {
	var out []string
	for _, f := range []struct {
		part string
		err  error
	}{{"tunnel", p.tunnelErr}, {"nodes", p.nodes.err}, {"nftables", p.filterErr}} {
		if f.err != nil {
			out = append(out, f.part+": "+f.err.Error())
		}
	}
	return out
}
