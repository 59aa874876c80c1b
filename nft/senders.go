package nft

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"onlink/internal/ours"
)

// Senders is the table "inet onlink-pods" of one network namespace: the MAC
// address that each pod may send from. It is a table of its own because it
// changes with every pod, and the other one with the nodes.
//
//	set senders:            device . MAC address
//	chain prerouting (raw): from a pod's group, iifname . ether saddr not in senders -> drop
//
// An unknown device may send nothing. A Senders may be used from many
// goroutines; changes that meet share one transaction.
type Senders struct {
	log  *slog.Logger
	home *os.File // the network namespace

	mu    sync.Mutex
	want  map[string]string // MAC address by device; guarded by mu
	dirty map[string]bool   // devices with an entry to be written; guarded by mu

	write   sync.Mutex        // held during a transaction
	conn    *nftables.Conn    // nil: none is open; guarded by write
	counter *netlink.Conn     // for the ruleset's generation, open with conn; guarded by write
	seen    uint32            // the generation that had the written table, 0: not known; guarded by write
	written map[string]string // the content of the kernel's set, nil before the first Replace; guarded by write
	rules   string            // the kernel's handles of our rules, "" when the table must be written; guarded by write
}

// NewSenders returns the table of the calling thread's network namespace;
// nothing is read or written yet. A nil logger discards.
func NewSenders(log *slog.Logger) (*Senders, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	return &Senders{log: log, home: home, want: map[string]string{}, dirty: map[string]bool{}}, nil
}

// Close closes the Senders' handles; the table stays.
func (s *Senders) Close() error {
	s.write.Lock()
	defer s.write.Unlock()
	return errors.Join(s.hangUp(), s.home.Close())
}

// Allow lets a device's pod send from mac and from no other address.
func (s *Senders) Allow(device string, mac net.HardwareAddr) error {
	s.mu.Lock()
	if s.want[device] != string(mac) {
		s.want[device] = string(mac)
		s.dirty[device] = true
	}
	s.mu.Unlock()
	return s.flush()
}

// Forget takes devices out; unknown ones are out already.
func (s *Senders) Forget(devices ...string) error {
	s.mu.Lock()
	for _, d := range devices {
		if _, known := s.want[d]; known {
			delete(s.want, d)
			s.dirty[d] = true
		}
	}
	s.mu.Unlock()
	return s.flush()
}

// flush returns when the kernel has every earlier change. A caller that waits for
// another's transaction finds its own change done, or tries again.
func (s *Senders) flush() error {
	s.write.Lock()
	defer s.write.Unlock()
	changed := s.take()
	if len(changed) == 0 {
		return nil
	}
	err := s.update(changed)
	if err == nil {
		return nil
	}
	s.log.Warn("nftables table was changed by another program, writing it again", "table", "inet "+ours.SendersTable, "err", err)
	if err := s.replace(); err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for device := range changed {
			s.dirty[device] = true
		}
		return err
	}
	return nil
}

// take returns the entries that changed, "" for those that are to go.
func (s *Senders) take() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := make(map[string]string, len(s.dirty))
	for device := range s.dirty {
		changed[device] = s.want[device]
	}
	clear(s.dirty)
	return changed
}

// update writes entries, "" for those that are to go.
func (s *Senders) update(changed map[string]string) error {
	if s.rules == "" {
		return errNoTable
	}
	var add, remove []nftables.SetElement
	for device, mac := range changed {
		have, there := s.written[device]
		if there && have == mac {
			continue
		}
		if there {
			remove = append(remove, sender(device, have))
		}
		if mac != "" {
			add = append(add, sender(device, mac))
		}
	}
	if err := s.send(add, remove); err != nil {
		return err
	}
	for device, mac := range changed {
		if mac == "" {
			delete(s.written, device)
		} else {
			s.written[device] = mac
		}
	}
	return nil
}

// send adds and removes elements in one transaction.
func (s *Senders) send(add, remove []nftables.SetElement) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	conn, err := s.dial()
	if err != nil {
		return err
	}
	set := sendersSet(sendersTable())
	for part := range slices.Chunk(add, elementsPerMessage) {
		err = errors.Join(err, conn.SetAddElements(set, part))
	}
	for part := range slices.Chunk(remove, elementsPerMessage) {
		err = errors.Join(err, conn.SetDeleteElements(set, part))
	}
	if err = errors.Join(err, conn.Flush()); err != nil {
		return errors.Join(fmt.Errorf("update set senders: %w", err), s.hangUp())
	}
	return nil
}

// Replace makes the table hold exactly these devices and MAC addresses,
// whatever its content was.
func (s *Senders) Replace(all map[string]net.HardwareAddr) error {
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	s.want = make(map[string]string, len(all))
	for device, mac := range all {
		s.want[device] = string(mac)
	}
	s.mu.Unlock()
	return s.replace()
}

// Repair writes the table again if the kernel's differs from it. It does nothing
// before the first Replace.
func (s *Senders) Repair() error {
	s.write.Lock()
	defer s.write.Unlock()
	if s.written == nil {
		return nil
	}
	whole, err := s.whole()
	if whole {
		return nil
	}
	s.log.Warn("nftables table was changed by another program, writing it again", "table", "inet "+ours.SendersTable, "err", err)
	return s.replace()
}

// whole compares the kernel's table with the written one.
func (s *Senders) whole() (bool, error) {
	conn, err := s.dial()
	if err != nil {
		return false, err
	}
	now, err := generation(s.counter) // before the table is read: a later change shows
	if err != nil {
		return false, errors.Join(err, s.hangUp())
	}
	if now != 0 && now == s.seen {
		return true, nil
	}
	var rules string
	elements, err := settled(int(s.home.Fd()), func() (list []nftables.SetElement, err error) {
		if rules, err = handles(conn); err != nil || rules != s.rules {
			return nil, err
		}
		return conn.GetSetElements(sendersSet(sendersTable()))
	})
	if err != nil || rules != s.rules || len(elements) != len(s.written) {
		return false, errors.Join(err, s.hangUp())
	}
	there := make(map[string]bool, len(elements))
	for _, e := range elements {
		there[string(e.Key)] = true
	}
	for device, mac := range s.written {
		if !there[string(sender(device, mac).Key)] {
			return false, nil
		}
	}
	s.seen = now
	return true, nil
}

// replace writes the whole table in one transaction.
func (s *Senders) replace() error {
	s.rules = ""
	s.mu.Lock()
	all := maps.Clone(s.want)
	clear(s.dirty)
	s.mu.Unlock()
	conn, err := s.dial()
	if err != nil {
		return err
	}
	table := sendersTable()
	if err := notForeign(conn, ours.SendersTable, ours.SendersSet); err != nil {
		return errors.Join(err, s.hangUp())
	}
	// Deleting an absent table is an error, so the table is added first.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	var elements []nftables.SetElement
	for device, mac := range all {
		elements = append(elements, sender(device, mac))
	}
	if err := errors.Join(buildSenders(conn, table, elements), conn.Flush()); err != nil {
		return errors.Join(fmt.Errorf("write table inet %s: %w", ours.SendersTable, err), s.hangUp())
	}
	s.written = all
	if s.rules, err = settled(int(s.home.Fd()), func() (string, error) { return handles(conn) }); err != nil {
		return errors.Join(err, s.hangUp())
	}
	s.log.Info("nftables table written", "table", "inet "+ours.SendersTable, "senders", len(all))
	return nil
}

// dial returns the connection, which is opened when there is none.
func (s *Senders) dial() (*nftables.Conn, error) {
	if s.conn != nil {
		return s.conn, nil
	}
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(s.home.Fd())),
		nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(sendBuffer) }))
	if err != nil {
		return nil, fmt.Errorf("open nftables socket: %w", err)
	}
	counter, err := dialGeneration(int(s.home.Fd()))
	if err != nil {
		return nil, errors.Join(err, conn.CloseLasting())
	}
	s.conn, s.counter = conn, counter
	return conn, nil
}

// hangUp closes the connection: after an error answers may be left in it.
func (s *Senders) hangUp() error {
	if s.conn == nil {
		return nil
	}
	conn, counter := s.conn, s.counter
	s.conn, s.counter = nil, nil
	if err := errors.Join(conn.CloseLasting(), counter.Close()); err != nil {
		return fmt.Errorf("close nftables socket: %w", err)
	}
	return nil
}

// errNoTable is an update where the table is not known to be there.
var errNoTable = errors.New("the table is not written yet")

func sendersTable() *nftables.Table {
	return &nftables.Table{Name: ours.SendersTable, Family: nftables.TableFamilyINet}
}

func sendersSet(table *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: ours.SendersSet, ID: 1, Concatenation: true,
		KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeEtherAddr),
	}
}

// sender is the set's element of a device and a MAC address: each part fills
// whole registers of four bytes.
func sender(device, mac string) nftables.SetElement {
	key := make([]byte, 16+8)
	copy(key, device)
	copy(key[16:], mac)
	return nftables.SetElement{Key: key}
}

// buildSenders adds set, chain and rule to the connection's transaction.
func buildSenders(conn *nftables.Conn, table *nftables.Table, elements []nftables.SetElement) error {
	accept := nftables.ChainPolicyAccept
	chain := conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw,
	})
	b := builder{conn: conn, table: table}
	set := b.add(sendersSet(table), elements)
	const name, mac = 1, 2 // registers of 16 bytes, one behind the other
	b.rule(chain, fromPod(), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: name},
		&expr.Payload{DestRegister: mac, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Lookup{SourceRegister: name, SetName: set.Name, SetID: set.ID, Invert: true},
	}, drop())
	return b.err
}

// handles names the chains and rules of the senders' table by the numbers that
// the kernel gave them.
func handles(conn *nftables.Conn) (string, error) {
	table := sendersTable()
	chains, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return "", fmt.Errorf("list chains: %w", err)
	}
	var b strings.Builder
	for _, c := range chains {
		if c.Table.Name != ours.SendersTable {
			continue
		}
		rules, err := conn.GetRules(table, c)
		if err != nil {
			return "", fmt.Errorf("list rules of chain %s: %w", c.Name, err)
		}
		fmt.Fprintf(&b, "%s", c.Name)
		for _, r := range rules {
			fmt.Fprintf(&b, " %d", r.Handle)
		}
	}
	return b.String(), nil
}

// CountSenders returns how many devices may send, by the kernel's table in the
// calling thread's network namespace.
func CountSenders() (int, error) {
	conn, err := dial()
	if err != nil {
		return 0, err
	}
	elements, err := settled(0, func() ([]nftables.SetElement, error) { return conn.GetSetElements(sendersSet(sendersTable())) })
	if err != nil {
		return 0, fmt.Errorf("list senders: %w", err)
	}
	return len(elements), nil
}

// SupportsSenders reports whether this kernel can hold the table: nil,
// [ErrUnsupported] with the kernel's answer, or another error. It leaves
// nothing behind.
func SupportsSenders() error {
	conn, err := dial()
	if err != nil {
		return err
	}
	table := conn.CreateTable(probeTable())
	if err := buildSenders(conn, table, []nftables.SetElement{sender("onl0", "\x02\x00\x00\x00\x00\x01")}); err != nil {
		return fmt.Errorf("build probe table: %w", err)
	}
	conn.DelTable(table)
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("probe nftables: %w", explain(err))
	}
	return nil
}
