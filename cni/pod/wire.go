package pod

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"onlink/internal/rtnl"
)

// indexTries is how often another interface index is tried when the one
// chosen is taken.
const indexTries = 4

// Failures of wiring after which the existing interface must not be removed.
var (
	// ErrNameTaken: an interface that is not onlink's has the name of a host
	// end.
	ErrNameTaken = errors.New("host device name belongs to an interface that is not onlink's")
	// ErrElsewhere: the attachment is wired in another network namespace.
	ErrElsewhere = errors.New("attachment is connected already, in another network namespace")
	// ErrIfName: the pod has an interface of the attachment's name.
	ErrIfName = errors.New("the pod has an interface of this name already")
)

// Wiring is the desired interface of a pod. [NewWiring] makes one.
type Wiring struct {
	Attachment

	NetnsFile *os.File         // the pod's network namespace, open
	MAC       net.HardwareAddr // of the pod's end
	Addresses []netip.Addr
	MTU       int    // in bytes; 0: the kernel's default
	Metric    uint32 // of the host route; 0: the kernel's default
	Table     uint32 // of the host route
	Sysctls   []Sysctl

	hostDevice string
	probe      bool // of [Host.Try]: out of service from the start, and nothing is routed to it

	// The indexes of both ends are chosen here, not by the kernel, so that messages
	// need not wait for each other's answers.
	hostIndex, podIndex int32
}

// NewWiring returns the wiring of an attachment, with the MAC address that
// follows from it.
func NewWiring(a Attachment, addresses []netip.Addr) *Wiring {
	return &Wiring{
		Attachment: a, Addresses: addresses, MAC: MAC(a.ContainerID, a.IfName), hostDevice: HostDevice(a.ContainerID, a.IfName),
	}
}

// HostDevice returns the name of the host end.
func (w *Wiring) HostDevice() string { return w.hostDevice }

func (w *Wiring) has6() bool {
	for _, a := range w.Addresses {
		if a.Is6() {
			return true
		}
	}
	return false
}

// connect makes the veth with everything on it. It runs on th, in the agent's
// namespace. After an error nothing of this call is left. A complete veth of an
// earlier ADD is kept as it is; the unfinished one of a crashed ADD is replaced.
func (w *Wiring) connect(th *thread) error {
	for try := range indexTries {
		w.chooseIndexes(th, try)
		err := w.attempt(th)
		// A taken name is EEXIST, a taken index EBUSY.
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.EBUSY) {
			return err
		}
		if done, err := w.resolve(th); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("create veth %s: %w: no free interface index", w.hostDevice, unix.EBUSY)
}

// attempt is connect without an earlier veth; EEXIST or EBUSY means that nothing
// was created because a name or index is taken.
func (w *Wiring) attempt(th *thread) error {
	if err := th.enter(w.NetnsFile); err != nil {
		return err
	}
	pod, err := dialSocket(th.podBuffer)
	if err != nil {
		return err
	}
	defer pod.close()
	var routed *watch // nil: no IPv6 route to wait for
	if w.has6() {
		// It never queries the state later, so it must subscribe before the interface
		// is made.
		if routed, err = dialWatch(unix.RTNLGRP_IPV6_ROUTE); err != nil {
			return err
		}
		defer routed.close()
	}
	if err := pod.exec(w.createBatch(int(th.home.Fd()))); err != nil {
		return errors.Join(err, th.leave())
	}
	if err := w.furnish(th, pod, routed); err != nil {
		return &undoneError{errors.Join(err, th.leave(), th.removeIndex(w.hostIndex))}
	}
	return nil
}

// undoneError hides the errno of a later step from connect, which tests for those
// of the first.
type undoneError struct{ err error }

// Error implements error.
func (e *undoneError) Error() string { return e.err.Error() }

// Is implements the interface of errors.Is for every target but an errno.
func (e *undoneError) Is(target error) bool {
	_, errno := target.(unix.Errno)
	return !errno && errors.Is(e.err, target)
}

// As implements the interface of errors.As.
func (e *undoneError) As(target any) bool { return errors.As(e.err, target) }

// furnish puts addresses, routes and neighbours on a new veth and waits until
// they work. The thread is in the pod's namespace before and in the agent's
// after.
func (w *Wiring) furnish(th *thread, pod *socket, routed *watch) error {
	if w.has6() {
		if err := setIPv6(w.IfName, true); err != nil {
			return err
		}
	}
	if err := w.addDefaults(pod, pod.exec(w.podBatch())); err != nil {
		return err
	}
	if err := w.setSysctls(); err != nil {
		return err
	}
	if err := th.leave(); err != nil {
		return err
	}
	if w.has6() {
		if err := setIPv6(w.hostDevice, false); err != nil {
			return err
		}
	}
	if err := w.hostRoutes(th, th.host.exec(w.hostBatch())); err != nil {
		return err
	}
	if err := w.awaitCarrier(th, pod); err != nil {
		return err
	}
	if routed == nil {
		return nil
	}
	return routed.awaitRoutes(w.Addresses)
}

// addDefaults handles a pod that has a default route already, through an
// interface attached earlier: it adds ours behind that one, with routes that name
// their interface. err is the result of the pod's batch.
func (w *Wiring) addDefaults(pod *socket, err error) error {
	again := rtnl.Batch{}
	metric := secondaryMetric + uint32(w.podIndex)
	behind := map[netip.Addr]bool{}
	rest := dropErrors(err, func(e *rtnl.Error) bool {
		for _, g := range w.Gateways() {
			switch {
			case e.Op == opGateway(g) && e.Errno == unix.EEXIST:
				w.gatewayRoute(&again, g, metric)
				return true
			// ENETUNREACH is the same case: the other interface's route to
			// the gateway took the place of ours.
			case e.Op == opDefault(g) && (e.Errno == unix.EEXIST || e.Errno == unix.ENETUNREACH):
				w.defaultRoute(&again, g, metric)
				behind[g] = true
				return true
			}
		}
		return false
	})
	if rest != nil {
		return rest
	}
	for g := range behind {
		w.sourceRoutes(&again, g)
	}
	return dropErrors(pod.exec(&again), func(e *rtnl.Error) bool {
		return e.Errno == unix.EEXIST && e.Op == opSourceRule // of an interface that was here before
	})
}

// secondaryMetric is the first metric of second default routes; it is the
// kernel's own default for IPv6.
const secondaryMetric = 1024

// hostRoutes handles a host route that is there already: the learn loop may
// install the same one a moment earlier. err is the result of the host's batch.
func (w *Wiring) hostRoutes(th *thread, err error) error {
	again := rtnl.Batch{}
	var foreign []error
	rest := dropErrors(err, func(e *rtnl.Error) bool {
		for _, a := range w.Addresses {
			if e.Op != opHostRoute(a) || e.Errno != unix.EEXIST {
				continue
			}
			if owner := w.routeOwner(th, a); owner != nil {
				foreign = append(foreign, owner)
			}
			w.hostRoute(&again, a, unix.NLM_F_REPLACE)
			return true
		}
		return false
	})
	if rest != nil || foreign != nil {
		return errors.Join(append(foreign, rest)...)
	}
	return th.host.exec(&again)
}

// dropErrors returns err without the kernel errors that handled accepts.
func dropErrors(err error, handled func(*rtnl.Error) bool) error {
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var rest []error
	for _, one := range all.Unwrap() {
		var k *rtnl.Error
		if !errors.As(one, &k) || !handled(k) {
			rest = append(rest, one)
		}
	}
	return errors.Join(rest...)
}

// removeIndex removes the interface with an index that we chose.
func (th *thread) removeIndex(index int32) error {
	m := rtnl.Batch{}
	m.Add(fmt.Sprintf("remove interface %d", index), unix.RTM_DELLINK, 0)
	m.Link(rtnl.Link{Index: index})
	err := th.host.exec(&m)
	if errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
