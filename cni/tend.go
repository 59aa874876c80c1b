package cni

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"onlink/internal/ours"
	"onlink/internal/rtnl"
)

const (
	// tendWait gathers the changes of many devices for one look at all of them.
	tendWait = time.Second
	// tendRetry is how long a device rests that could not be mended.
	tendRetry = 5 * time.Second
	// tendLock bounds the wait for an attachment that an ADD or a DEL works on.
	tendLock = time.Second
	// toldFor is how long status tells of a device that was mended.
	toldFor = 5 * time.Minute
)

// tender keeps the host ends of running pods as ADD made them: somebody may set
// one down, take it out of its group, or rename it, and nobody would set it up
// again as long as the pod runs.
type tender struct {
	looks chan struct{} // cap 1; sent to by Look, never closed

	mu     sync.Mutex
	found  map[string]finding // by host device; guarded by mu
	mended uint64             // guarded by mu
}

// finding is what was wrong with a pod's host end.
type finding struct {
	pod  string
	what string
	at   time.Time
	err  error // why it is so still; nil: mended
}

// Look has the host ends of all pods looked at soon. It neither blocks nor
// fails; whoever watches the links calls it when some changed.
func (s *Server) Look() {
	select {
	case s.tender.looks <- struct{}{}:
	default:
	}
}

// tend looks at the host ends when asked, until ctx ends.
func (s *Server) tend(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	soon := false // a look comes after tendWait at the latest
	var told string
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.tender.looks:
			if !soon { // else devices that come and go all the time would put it off for ever
				soon = true
				timer.Reset(tendWait)
			}
			continue
		case <-timer.C:
		}
		soon = false
		err := s.tendAll(ctx)
		if err == nil || ctx.Err() != nil {
			told = ""
			continue
		}
		timer.Reset(tendRetry)
		if text := err.Error(); text != told {
			told = text
			s.cfg.Log.Warn("devices of pods not all as they should be, will look again", "error", err)
		}
	}
}

// tendAll looks at the host end of every attachment and mends what it can.
func (s *Server) tendAll(ctx context.Context) error {
	links, err := s.listLinks(ctx, s.reaper.threads)
	if err != nil {
		return err
	}
	ends := map[string]netlink.Link{} // by the name that the device should have
	for _, link := range links {
		if isOurs(link) || ends[link.Attrs().Name] == nil {
			ends[rightName(link)] = link
		}
	}
	var errs []error
	ill := map[string]bool{}
	for _, a := range s.cfg.IPAM.Attachments() {
		device := HostDevice(a.ContainerID, a.IfName)
		what := fault(a, ends[device])
		if what == "" {
			continue
		}
		ill[device] = true
		if err := s.mend(ctx, a, device); err != nil {
			errs = append(errs, err)
		}
	}
	s.tender.keep(ill)
	return errors.Join(errs...)
}

// rightName is the name that ADD gave a device of ours, by its alias.
func rightName(link netlink.Link) string {
	at := link.Attrs()
	if f := strings.Fields(at.Alias); isOurs(link) && len(f) == 4 && f[0]+" " == ours.HostAliasPrefix {
		return HostDevice(f[2], f[3])
	}
	return at.Name
}

// fault says what is wrong with the host end of an attachment, "" for nothing.
// What is taken out of service is as it should be.
func fault(a Attachment, link netlink.Link) string {
	if link == nil {
		if a.Netns == "" || netnsGone(a.Netns) {
			return "" // the pod has ended, or may have
		}
		return "is gone"
	}
	at := link.Attrs()
	_, aliased := parseAlias(at.Alias, HostDevice(a.ContainerID, a.IfName))
	switch {
	case at.Group == ours.PodEnded || at.Group == ours.PodRemoving:
		return ""
	case !isOurs(link) && !aliased:
		return "is gone, and another device has its name"
	case at.Name != HostDevice(a.ContainerID, a.IfName):
		return "was renamed to " + at.Name
	case at.Group != ours.PodServing:
		return fmt.Sprintf("was put into group %d", at.Group)
	case at.Flags&net.FlagUp == 0:
		return "was set down"
	case !aliased:
		return fmt.Sprintf("was given the alias %q", at.Alias)
	}
	return ""
}

// mend looks at one host end again while no ADD or DEL works on it, and makes
// it what it was.
func (s *Server) mend(ctx context.Context, a Attachment, device string) error {
	waiting, cancel := context.WithTimeout(ctx, tendLock)
	defer cancel()
	unlock, err := s.locks.lock(waiting, a.key())
	if err != nil {
		return fmt.Errorf("look at %s: %w", device, err)
	}
	defer unlock()
	lease, held := s.cfg.IPAM.Lookup(a)
	if !held || s.reaper.has(a.key()) {
		return nil
	}
	var what string
	err = s.reaper.threads.do(ctx, func(th *thread) error {
		links, err := endsNamed(th, device)
		if err != nil {
			return err
		}
		var link netlink.Link
		if len(links) > 0 {
			link = links[0]
		}
		if what = fault(a, link); what == "" {
			return nil
		}
		if link == nil {
			return errEndGone
		}
		if !isOurs(link) {
			return foreignDevice(link)
		}
		return s.restore(th, a, lease, link)
	})
	if what == "" {
		return err
	}
	s.tender.note(device, finding{pod: a.Namespace + "/" + a.Pod, what: what, at: time.Now(), err: err})
	if err != nil {
		return fmt.Errorf("host end %s of pod %s/%s %s: %w", device, a.Namespace, a.Pod, what, err)
	}
	s.cfg.Log.Warn("pod's host end mended", "namespace", a.Namespace, "pod", a.Pod, "device", device, "it", what)
	return nil
}

// errEndGone is a host end that no longer exists, and so no interface in the
// pod either.
var errEndGone = errors.New("the pod has no network: delete it")

// endsNamed returns the devices whose right name is the given one, ours first.
func endsNamed(th *thread, device string) ([]netlink.Link, error) {
	link, err := findLink(th.links, device)
	if err != nil || link != nil && isOurs(link) {
		return []netlink.Link{link}, err
	}
	all, err := listAll(th)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(l netlink.Link) bool { return rightName(l) != device }), nil
}

// restore puts name, group, alias, state, routes and neighbours of a host end
// back: the kernel dropped the last two when the device went down.
func (s *Server) restore(th *thread, a Attachment, lease Lease, link netlink.Link) error {
	at := link.Attrs()
	w := &wiring{
		attachment: a, hostDevice: HostDevice(a.ContainerID, a.IfName), addresses: lease.Addresses,
		metric: s.cfg.Metric, table: s.cfg.Table, hostIndex: int32(at.Index), mac: podMAC(a.ContainerID, a.IfName),
	}
	if netns, err := openNetns(a.Netns, s.home); err == nil {
		w.netns = netns
		pod, err := w.podLink(th) // it may have another MAC address than we choose
		_ = netns.Close()
		if err == nil && pod != nil && len(pod.Attrs().HardwareAddr) == 6 {
			w.mac = pod.Attrs().HardwareAddr
		}
	}
	m := rtnl.Batch{}
	if at.Name != w.hostDevice {
		m.Add("set "+at.Name+" down to rename it", unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{Index: w.hostIndex, Change: unix.IFF_UP})
		m.Add("rename "+at.Name+" to "+w.hostDevice, unix.RTM_NEWLINK, 0)
		m.Link(rtnl.Link{Index: w.hostIndex})
		m.AttrString(unix.IFLA_IFNAME, w.hostDevice)
	}
	m.Add("mark "+w.hostDevice+" as a pod's", unix.RTM_NEWLINK, 0)
	m.Link(rtnl.Link{Index: w.hostIndex})
	m.AttrUint32(unix.IFLA_GROUP, ours.PodServing)
	if err := th.host.exec(&m); err != nil {
		return err
	}
	if w.has6() {
		if err := setIPv6(w.hostDevice, false); err != nil {
			return err
		}
	}
	return w.hostRoutes(th, th.host.exec(w.hostBatch()))
}

// note keeps what was found on a device.
func (t *tender) note(device string, f finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.found == nil {
		t.found = map[string]finding{}
	}
	t.found[device] = f
	if f.err == nil {
		t.mended++
	}
}

// keep forgets what is old, and what was wrong and is right now without us.
func (t *tender) keep(ill map[string]bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for device, f := range t.found {
		if f.err != nil && !ill[device] {
			delete(t.found, device)
		}
	}
}

// Problems says what an operator should know: why a new pod could not be
// connected, what is wrong with the host ends of pods, and what was mended in the
// last minutes.
func (s *Server) Problems() []string {
	t := &s.tender
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for device, f := range t.found {
		age := time.Since(f.at).Truncate(time.Second)
		switch {
		case f.err != nil:
			out = append(out, fmt.Sprintf("pod %s: its host end %s %s: %v", f.pod, device, f.what, f.err))
		case age < toldFor:
			out = append(out, fmt.Sprintf("pod %s: its host end %s %s by somebody %s ago; it was put right", f.pod, device, f.what, age))
		default:
			delete(t.found, device)
		}
	}
	if err := s.Trouble(); err != nil {
		out = append(out, err.Error())
	}
	slices.Sort(out)
	return out
}

func (t *tender) count() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mended
}
