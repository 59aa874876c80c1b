package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/dump"
	"onlink/internal/ours"
)

// answerTime bounds the wait for one answer of the kernel.
const answerTime = 5 * time.Second

// Ensurer makes tunnel devices exist. It is not safe for concurrent use.
type Ensurer struct {
	log    *slog.Logger
	handle *netlink.Handle // opened at first use, in the namespace of that thread

	indexes map[string]int      // of the devices that were well at the last Ensure
	sets    map[string]*nodeSet // of VXLAN devices
	untold  map[string]bool     // devices that lost their routes in an Ensure that then failed
	foreign []string            // foreign devices of the last Ensure
}

// New returns an Ensurer; nothing is done yet.
func New(log *slog.Logger) *Ensurer { return &Ensurer{log: log} }

// Device is a device as it is after [Ensurer.Ensure].
type Device struct {
	Name  string
	Index int
	MTU   int // bytes
	// Reset reports that the kernel holds no routes over the device, because it
	// was created, or was down: they must be installed again.
	Reset bool
}

// Ensure makes the devices exist as desired: up, marked, with the right
// addresses and MTU. One that cannot be made does not stop the others; the
// result holds those that are well, the error all that are not
// ([ErrUnsupported], [ErrForeign], [ErrConflict], [ErrInvalid] or the
// kernel's). Devices that are not named are left as they are.
func (e *Ensurer) Ensure(ctx context.Context, desired []Desired) ([]Device, error) {
	if err := e.open(); err != nil {
		return nil, err
	}
	var devices []Device
	var errs []error
	e.foreign = nil
	e.indexes = make(map[string]int, len(desired))
	for _, d := range desired {
		if err := ctx.Err(); err != nil {
			return devices, errors.Join(append(errs, err)...)
		}
		dev, err := e.ensure(d)
		if errors.Is(err, ErrForeign) {
			e.foreign = append(e.foreign, d.Name)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("ensure tunnel %s: %w", d.Name, err))
			continue
		}
		e.indexes[d.Name] = dev.Index
		devices = append(devices, dev)
	}
	return devices, errors.Join(errs...)
}

// Foreign names the devices that the last Ensure left alone because another
// program made them: no route may lead through them.
func (e *Ensurer) Foreign() []string { return e.foreign }

// Remove deletes devices of ours. One that is absent is no error; one that is
// not ours is left alone ([ErrForeign]).
func (e *Ensurer) Remove(ctx context.Context, names []string) error {
	if err := e.open(); err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		delete(e.indexes, name)
		delete(e.sets, name)
		delete(e.untold, name)
		l, err := e.find(name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case l == nil: // its rule may be left: the agent was killed in between, or another program removed the device
			if err := removeGateways(e.handle, name); err != nil && !errors.Is(err, ErrUnsupported) {
				errs = append(errs, fmt.Errorf("remove tunnel %s: %w", name, err))
			}
		case l.Attrs().Alias != ours.TunnelAlias:
			errs = append(errs, fmt.Errorf("remove tunnel %s: %w", name, foreign(l)))
		default:
			if err := e.handle.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
				errs = append(errs, fmt.Errorf("remove tunnel %s: %w", name, err))
				continue
			}
			e.log.Info("tunnel removed", "device", name)
			if err := removeGateways(e.handle, name); err != nil {
				errs = append(errs, fmt.Errorf("remove tunnel %s: %w", name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// Close closes the netlink socket; the devices stay.
func (e *Ensurer) Close() {
	if e.handle != nil {
		e.handle.Close()
		e.handle = nil
	}
}

// open opens the socket. The family is named, because without it the package
// also opens NETLINK_XFRM, which not every kernel has.
func (e *Ensurer) open() error {
	if e.handle != nil {
		return nil
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(answerTime); err != nil {
		h.Close()
		return fmt.Errorf("set netlink timeout: %w", err)
	}
	e.handle = h
	return nil
}

// lookAgain bounds how often a device is checked again that another program sets
// down or deletes during its repair.
const lookAgain = 3

// ensure creates or repairs one device. The device may change between the check
// and the repair: the kernel then reports it as down or absent, and the next
// check finds that too.
func (e *Ensurer) ensure(d Desired) (dev Device, err error) {
	if err := d.validate(); err != nil {
		return Device{}, err
	}
	for range lookAgain {
		dev, err = e.once(d)
		if !errors.Is(err, unix.ENETDOWN) && !errors.Is(err, unix.ENODEV) {
			break
		}
	}
	if err != nil {
		return Device{}, err
	}
	dev.Reset = e.untold[d.Name]
	delete(e.untold, d.Name)
	return dev, nil
}

// once checks the device and repairs the differences.
func (e *Ensurer) once(d Desired) (Device, error) {
	l, err := e.find(d.Name)
	if err != nil {
		return Device{}, err
	}
	if l != nil && l.Attrs().Alias != ours.TunnelAlias && !d.remains(l) {
		return Device{}, foreign(l)
	}
	if l != nil && l.Type() != d.Kind.String() {
		return Device{}, foreign(l)
	}
	if l != nil {
		if why := d.differs(l); why != "" {
			e.log.Info("tunnel differs, recreating it", "device", d.Name, "property", why)
			if err := e.handle.LinkDel(l); err != nil {
				return Device{}, fmt.Errorf("delete device: %w", err)
			}
			l = nil
		}
	}
	if l == nil {
		if l, err = e.make(d); err != nil {
			return Device{}, err
		}
		e.lost(d)
	}
	return e.settle(d, l)
}

// lost records that the kernel holds no routes over the device. The next
// successful Ensure reports it, which may be a later one.
func (e *Ensurer) lost(d Desired) {
	if e.untold == nil {
		e.untold = map[string]bool{}
	}
	e.untold[d.Name] = true
}

// find returns the device with this name, nil when there is none.
func (e *Ensurer) find(name string) (netlink.Link, error) {
	l, err := e.handle.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, nil //nolint:nilnil // absence is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("find device %s: %w", name, err)
	}
	return l, nil
}

// make takes back a renamed device or creates a new one.
func (e *Ensurer) make(d Desired) (netlink.Link, error) {
	rivals, err := e.rivals(d)
	if err != nil {
		return nil, err
	}
	for _, r := range rivals {
		if r.Attrs().Alias != ours.TunnelAlias {
			return nil, fmt.Errorf("%w: device %s has local %s and no remote; delete it or give it another address (ip link set %s type %s local ...)",
				ErrConflict, r.Attrs().Name, d.Local, r.Attrs().Name, r.Type())
		}
		// Ours under another name. Its routes refer to the index and would
		// stay, but no check finds them under that name: start over.
		e.log.Info("tunnel was renamed, recreating it", "device", d.Name, "renamed", r.Attrs().Name)
		if err := e.handle.LinkDel(r); err != nil {
			return nil, fmt.Errorf("delete renamed device %s: %w", r.Attrs().Name, err)
		}
	}
	if err := e.handle.LinkAdd(d.template()); err != nil {
		return nil, d.createError(err)
	}
	l, err := e.find(d.Name)
	if err == nil && l == nil {
		err = fmt.Errorf("find device after creating it: %w", unix.ENODEV)
	}
	if err == nil {
		e.log.Info("tunnel created", "device", d.Name, "kind", d.Kind.String(), "local", d.Local.String(), "mtu", d.mtu())
	}
	return l, err
}

// createError explains the kernel's error for the creation of d.
func (d Desired) createError(err error) error {
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("create device: %w: no %s devices; load the module (modprobe %s)", ErrUnsupported, d.Kind, d.Kind.module())
	}
	return fmt.Errorf("create device: %w", err)
}

// rivals lists the devices that would receive the packets of d's device. The
// module's own device (tunl0, ip6tnl0) has no local address and is none.
func (e *Ensurer) rivals(d Desired) ([]netlink.Link, error) {
	links, err := dump.Links(e.handle)
	if err != nil && !errors.Is(err, dump.ErrInterrupted) {
		return nil, err
	}
	var out []netlink.Link
	for _, l := range links {
		if d.rival(l) {
			out = append(out, l)
		}
	}
	return out, nil
}

// settle sets the changeable settings of an existing device. The alias comes
// first: it makes the device ours.
func (e *Ensurer) settle(d Desired, l netlink.Link) (Device, error) {
	a := l.Attrs()
	if a.Alias != ours.TunnelAlias {
		if err := e.handle.LinkSetAlias(l, ours.TunnelAlias); err != nil {
			return Device{}, fmt.Errorf("set alias: %w", err)
		}
	}
	if a.MTU != d.mtu() {
		if err := e.handle.LinkSetMTU(l, d.mtu()); err != nil {
			return Device{}, fmt.Errorf("set mtu %d: %w", d.mtu(), err)
		}
		e.log.Info("tunnel mtu set", "device", d.Name, "mtu", d.mtu(), "was", a.MTU)
	}
	if err := setParameters(d.Name); err != nil {
		return Device{}, err
	}
	bare, err := setAddress(e.handle, e.log, l)
	if err != nil {
		return Device{}, err
	}
	if bare {
		// With the last address the kernel took routes and neighbours
		// (fib_disable_ip).
		delete(e.sets, d.Name)
		e.lost(d)
	}
	if a.Flags&net.FlagUp == 0 {
		if err := e.handle.LinkSetUp(l); err != nil {
			return Device{}, fmt.Errorf("set up: %w", err)
		}
		delete(e.sets, d.Name) // neighbour entries go when a device goes down
		if !e.untold[d.Name] {
			e.log.Info("tunnel was down, set up", "device", d.Name)
		}
		e.lost(d)
	}
	if err := addGateways(e.handle, d, l); err != nil {
		return Device{}, err
	}
	return Device{Name: d.Name, Index: a.Index, MTU: d.mtu()}, nil
}

// foreign returns the error that describes a foreign device.
func foreign(l netlink.Link) error {
	return fmt.Errorf("%w: it is a %s device with alias %q, not touched; rename or delete it", ErrForeign, l.Type(), l.Attrs().Alias)
}
