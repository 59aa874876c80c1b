package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"onlink/kube/api/v1alpha1"
	onlinkv1 "onlink/proto/v1"
)

// What happens to machines. Two limits keep every event one that onlink promises to
// survive. A machine of which the Node is deleted and which neither the API server nor
// a reflector can hear is no different from a dead one: its blocks are freed, and
// rightly, so such a one is never made. And a machine that is rejected (a copy, a
// second one of a name) gets an administrator after a while, who ends the conflict.

// event is one kind of event. It reports false when nothing is in the state that it
// needs.
type event struct {
	name   string
	weight int
	do     func(b *gcBed, t *testing.T) bool
}

var gcEvents = []event{
	{"join", 6, (*gcBed).join},
	{"leave", 5, (*gcBed).leave},
	{"leave after a drain", 2, (*gcBed).leaveDrained},
	{"leave and return", 3, (*gcBed).leaveAndReturn},
	{"return after a while", 2, (*gcBed).returnLate},
	{"die with the Node", 1, (*gcBed).die},
	{"delete the Node of a running machine", 3, (*gcBed).deleteLiving},
	{"partition from the API server", 3, (*gcBed).cutAPI},
	{"partition from the reflectors", 3, (*gcBed).cutReflectors},
	{"restart the agent", 2, (*gcBed).crash},
	{"clone", 2, (*gcBed).clone},
	{"rename", 2, (*gcBed).rename},
	{"reinstall", 2, (*gcBed).reinstall},
	{"second machine of a name", 2, (*gcBed).twin},
	{"stop the API server", 1, (*gcBed).stopAPI},
}

// happen makes one event.
func (b *gcBed) happen(t *testing.T) {
	t.Helper()
	total := 0
	for _, e := range gcEvents {
		total += e.weight
	}
	for range 50 {
		n := b.rnd.IntN(total)
		for _, e := range gcEvents {
			if n -= e.weight; n >= 0 {
				continue
			}
			if e.do(b, t) {
				b.count[e.name]++
				return
			}
			break
		}
	}
}

// state is what is wrong with a machine at present.
type state struct {
	ghost    bool // its Node was deleted
	cutAPI   bool
	cutPeers bool
	rejected bool // it is a copy, or a second one of its name
}

// pick returns a machine in a state that f accepts; nil: there is none.
func (b *gcBed) pick(f func(*state) bool) *gcMachine {
	for _, i := range b.rnd.Perm(len(b.seats)) {
		s := b.seats[i]
		if m := s.machine(); m != nil && !s.reflector && f(b.states[m]) {
			return m
		}
	}
	return nil
}

func sound(s *state) bool { return *s == state{} }

func plain(s *state) bool { return !s.rejected }

// empty returns a place without a machine; nil: there is none.
func (b *gcBed) empty() *seat {
	for _, i := range b.rnd.Perm(len(b.seats)) {
		if s := b.seats[i]; s.machine() == nil && !b.kept[s] {
			return s
		}
	}
	return nil
}

// name returns a name that no Node had.
func (b *gcBed) name() string {
	b.names++
	return fmt.Sprintf("m%d", b.names)
}

func (b *gcBed) newDisk() string {
	b.disks++
	return filepath.Join(b.dir, fmt.Sprintf("disk%d", b.disks))
}

// start boots a machine.
func (b *gcBed) start(t *testing.T, s *seat, name, disk string, st state) *gcMachine {
	t.Helper()
	m := b.boot(t, s, name, disk)
	b.states[m] = &st
	return m
}

// later does something in a while, unless the machine has ended by then.
func (b *gcBed) later(m *gcMachine, after time.Duration, do func(*testing.T)) {
	b.todo = append(b.todo, task{time.Now().Add(after), m, do})
}

// task is what is to be done at a time.
type task struct {
	at time.Time
	m  *gcMachine // nil: of no machine
	do func(*testing.T)
}

// due does what is to be done by now; all: also what is to be done later.
func (b *gcBed) due(t *testing.T, all bool) {
	t.Helper()
	for i := 0; i < len(b.todo); i++ {
		x := b.todo[i]
		if !all && time.Now().Before(x.at) {
			continue
		}
		b.todo = append(b.todo[:i], b.todo[i+1:]...)
		i--
		if x.m == nil || x.m.seat.machine() == x.m {
			x.do(t)
		}
	}
}

func (b *gcBed) join(t *testing.T) bool {
	t.Helper()
	s := b.empty()
	if s == nil {
		return false
	}
	b.start(t, s, b.name(), b.newDisk(), state{})
	return true
}

// leave is a machine that the autoscaler removes: power and Node are gone.
func (b *gcBed) leave(t *testing.T) bool {
	t.Helper()
	m := b.pick(plain)
	if m == nil {
		return false
	}
	if b.long && b.rnd.IntN(3) == 0 {
		m.shutDown(t) // peers keep its routes for two minutes then (RFC 4724)
	} else {
		m.cutPower(t)
	}
	must(t, b.deleteNode(t.Context(), m.name))
	if b.rnd.IntN(3) == 0 {
		b.gone = append(b.gone, former{m.seat, m.name, m.disk})
	}
	return true
}

// former is a machine that was removed and has its disk.
type former struct {
	seat       *seat
	name, disk string
}

// returnLate boots a machine that was removed a while ago, with its old disk: its
// blocks may be another's by now.
func (b *gcBed) returnLate(t *testing.T) bool {
	t.Helper()
	for i, f := range b.gone {
		if f.seat.machine() == nil && !b.kept[f.seat] {
			b.gone = append(b.gone[:i], b.gone[i+1:]...)
			b.start(t, f.seat, f.name, f.disk, state{})
			return true
		}
	}
	return false
}

// leaveDrained is a removal by the book: its agent withdraws and releases all first.
func (b *gcBed) leaveDrained(t *testing.T) bool {
	t.Helper()
	m := b.pick(sound)
	if m == nil {
		return false
	}
	m.mu.Lock()
	m.pause = true
	m.mu.Unlock()
	for _, p := range m.allPods() {
		if err := m.endPod(t.Context(), p); err != nil {
			m.note(err) // the agent may not serve yet
		}
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:""}}}`, v1alpha1.DrainAnnotation)
	_, err := b.Client.CoreV1().Nodes().Patch(t.Context(), m.name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		must(t, err)
	}
	b.states[m].rejected = true // nothing else happens to it
	b.later(m, b.period, func(t *testing.T) {
		m.cutPower(t)
		must(t, b.deleteNode(t.Context(), m.name))
	})
	return true
}

// leaveAndReturn is a removal that is taken back at once.
func (b *gcBed) leaveAndReturn(t *testing.T) bool {
	t.Helper()
	m := b.pick(plain)
	if m == nil {
		return false
	}
	m.cutPower(t)
	must(t, b.deleteNode(t.Context(), m.name))
	b.keep(m.seat, time.Duration(b.rnd.Int64N(int64(b.period))), func(t *testing.T) { b.start(t, m.seat, m.name, m.disk, state{}) })
	return true
}

// keep leaves a place empty until the machine in it returns.
func (b *gcBed) keep(s *seat, after time.Duration, do func(*testing.T)) {
	b.kept[s] = true
	b.later(nil, after, func(t *testing.T) {
		delete(b.kept, s)
		do(t)
	})
}

// die is a power cut of a machine of which the Node stays, for longer than the
// controller's patience: its blocks stay its own.
func (b *gcBed) die(t *testing.T) bool {
	t.Helper()
	m := b.pick(sound)
	if m == nil {
		return false
	}
	m.cutPower(t)
	b.keep(m.seat, 3*b.period, func(t *testing.T) { b.start(t, m.seat, m.name, m.disk, state{}) })
	return true
}

// deleteLiving deletes the Node of a machine that runs. At times it has lost the API
// server too, so that its announcements alone show that it lives. Later kubelet
// registers it again.
func (b *gcBed) deleteLiving(t *testing.T) bool {
	t.Helper()
	m := b.pick(sound)
	if m == nil || len(m.allPods()) == 0 {
		return false
	}
	st := b.states[m]
	st.ghost = true
	if b.rnd.IntN(2) == 0 {
		st.cutAPI = true
		m.wire.cut()
	}
	must(t, b.deleteNode(t.Context(), m.name))
	b.later(m, 4*b.period, func(t *testing.T) {
		m.wire.heal()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		must(t, m.register(ctx))
		*st = state{}
	})
	return true
}

func (b *gcBed) cutAPI(t *testing.T) bool {
	t.Helper()
	// A reflector answers the controller's questions through the API server.
	m := b.pick(func(s *state) bool { return *s == state{} || *s == state{cutPeers: true} })
	if b.rnd.IntN(4) == 0 {
		m = b.seats[b.rnd.IntN(b.reflectors)].machine()
	}
	if m == nil || b.states[m].cutAPI {
		return false
	}
	b.states[m].cutAPI = true
	m.wire.cut()
	b.later(m, time.Duration(b.rnd.Int64N(int64(3*b.period))), func(*testing.T) {
		m.wire.heal()
		b.states[m].cutAPI = false
	})
	return true
}

// cutReflectors drops what a machine sends to the reflectors.
func (b *gcBed) cutReflectors(t *testing.T) bool {
	t.Helper()
	m := b.pick(func(s *state) bool { return *s == state{} || *s == state{cutAPI: true} })
	if m == nil {
		return false
	}
	const static = 4
	b.states[m].cutPeers = true
	for _, s := range b.seats[:b.reflectors] {
		must(t, m.seat.NS.AddRoute(netip.PrefixFrom(s.Addr, 32), netip.Addr{}, static))
	}
	b.later(m, time.Duration(b.rnd.Int64N(int64(4*b.period))), func(t *testing.T) {
		for _, s := range b.seats[:b.reflectors] {
			must(t, m.seat.NS.DeleteRoute(netip.PrefixFrom(s.Addr, 32), static))
		}
		b.states[m].cutPeers = false
	})
	return true
}

func (b *gcBed) crash(t *testing.T) bool {
	t.Helper()
	m := b.pick(plain)
	if m == nil {
		return false
	}
	must(t, m.restartAgent())
	return true
}

// copyDisk makes a disk with a copy of a machine's database and configuration.
func (b *gcBed) copyDisk(m *gcMachine) (disk string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	stream, err := onlinkv1.NewAdminClient(m.admin).BackupIPAM(ctx, &onlinkv1.BackupIPAMRequest{})
	if err != nil {
		return "", err
	}
	var db []byte
	for {
		chunk, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		db = append(db, chunk.GetData()...)
	}
	config, err := os.ReadFile(filepath.Join(m.disk, "onlinkd.yaml"))
	if err != nil {
		return "", err
	}
	disk = b.newDisk()
	return disk, errors.Join(os.MkdirAll(disk, 0o755),
		os.WriteFile(filepath.Join(disk, "onlink.db"), db, 0o600), os.WriteFile(filepath.Join(disk, "onlinkd.yaml"), config, 0o600))
}

// clone boots a copy of a machine's disk under another name. The agent uses no other
// node's database; in a while an administrator takes it away.
func (b *gcBed) clone(t *testing.T) bool {
	t.Helper()
	s, m := b.empty(), b.pick(sound)
	if s == nil || m == nil {
		return false
	}
	disk, err := b.copyDisk(m)
	if err != nil {
		m.note(err) // its agent does not serve yet
		return false
	}
	c := b.start(t, s, b.name(), disk, state{rejected: true})
	b.later(c, b.period+b.period/2, func(t *testing.T) { b.eraseDatabase(t, c) })
	return true
}

// eraseDatabase is the remedy for a copied disk: stop the agent, move its database
// away, start it.
func (b *gcBed) eraseDatabase(t *testing.T, m *gcMachine) {
	t.Helper()
	m.mu.Lock()
	p := m.agent
	m.mu.Unlock()
	if p != nil {
		must(t, p.Kill())
	}
	if err := os.Remove(filepath.Join(m.disk, "onlink.db")); err != nil && !errors.Is(err, os.ErrNotExist) {
		must(t, err)
	}
	if p != nil {
		must(t, m.startAgent())
	}
	*b.states[m] = state{}
}

// rename gives a machine another name at its next boot; its disk stays. In a while an
// administrator takes the former name over, or the database away.
func (b *gcBed) rename(t *testing.T) bool {
	t.Helper()
	m := b.pick(sound)
	if m == nil {
		return false
	}
	former := m.name
	m.cutPower(t)
	must(t, b.deleteNode(t.Context(), former))
	next := b.start(t, m.seat, b.name(), m.disk, state{rejected: true})
	takeOver := b.rnd.IntN(2) == 0
	b.later(next, b.period+b.period/2, func(t *testing.T) {
		if takeOver {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := onlinkv1.NewAdminClient(next.admin).TakeOverNode(ctx, &onlinkv1.TakeOverNodeRequest{Node: former})
			if err == nil {
				*b.states[next] = state{}
				return
			}
			next.note(fmt.Errorf("take over: %w", err)) // the former name may be held still
		}
		b.eraseDatabase(t, next)
	})
	return true
}

// reinstall boots a machine with an empty disk under its name.
func (b *gcBed) reinstall(t *testing.T) bool {
	t.Helper()
	m := b.pick(sound)
	if m == nil {
		return false
	}
	m.cutPower(t)
	b.start(t, m.seat, m.name, b.newDisk(), state{})
	return true
}

// twin boots a second machine of a name, with a disk of its own or a copy of the
// first one's. In a while an administrator ends it.
func (b *gcBed) twin(t *testing.T) bool {
	t.Helper()
	s, m := b.empty(), b.pick(sound)
	if s == nil || m == nil || len(m.allPods()) == 0 {
		return false
	}
	disk := b.newDisk()
	if b.rnd.IntN(2) == 0 {
		var err error
		if disk, err = b.copyDisk(m); err != nil {
			m.note(err) // its agent does not serve yet
			return false
		}
	}
	second := b.start(t, s, m.name, disk, state{rejected: true})
	b.states[m].rejected = true // nothing else happens to the first one meanwhile
	b.later(second, 2*b.period, func(t *testing.T) {
		second.cutPower(t)
		*b.states[m] = state{}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		must(t, m.register(ctx)) // kubelet of the first one writes its addresses again
	})
	return true
}

// stopAPI stops the API server for some seconds: it answers nothing and ends no
// connection.
func (b *gcBed) stopAPI(t *testing.T) bool {
	t.Helper()
	if b.stopped {
		return false
	}
	b.stopped = true
	must(t, b.Pause())
	length := time.Second + time.Duration(b.rnd.Int64N(int64(5*time.Second)))
	time.AfterFunc(length, func() { // the driver may wait for an answer meanwhile
		if err := b.Continue(); err != nil {
			b.fail(fmt.Errorf("continue the API server: %w", err))
		}
	})
	b.later(nil, 2*length, func(*testing.T) { b.stopped = false })
	return true
}
