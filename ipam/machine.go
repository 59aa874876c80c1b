package ipam

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"time"
)

// Caller is the machine that calls a registry. A node's name does not identify a
// machine: hosts of one image have one name. So every call that changes something
// carries the instance too, which is made at the first start, kept in the node's
// database and not derived from the name.
type Caller struct {
	Node string
	// Instance is that of the machine's database; empty: the caller is of a
	// version before databases had one.
	Instance string
	// Address and Address6 are the next hops of the node's announcements. They
	// distinguish a database from its copy.
	Address, Address6 netip.Addr
	// Period is the time between two of its asserts.
	Period time.Duration
}

// maxPeriod bounds the period that a caller may claim, so that none holds a name
// for ever.
const maxPeriod = 10 * time.Minute

// validate checks the fields, which a stranger may send.
func (c Caller) validate() error {
	switch {
	case c.Node == "" || len(c.Node) > maxName:
		return fmt.Errorf("%w: node name is empty or too long", ErrInvalidRequest)
	case len(c.Instance) > 64:
		return fmt.Errorf("%w: instance is longer than 64 bytes", ErrInvalidRequest)
	case c.Address.IsValid() && !c.Address.Is4(), c.Address6.IsValid() && (!c.Address6.Is6() || c.Address6.Is4In6() || c.Address6.Zone() != ""):
		return fmt.Errorf("%w: addresses %v and %v: the first is IPv4, the second IPv6", ErrInvalidRequest, c.Address, c.Address6)
	}
	return nil
}

// Patience is how long a registry waits for the caller's next assert before it
// takes the machine for silent: two periods.
func (c Caller) Patience() time.Duration {
	p := c.Period
	if p <= 0 {
		p = DefaultAssertInterval
	}
	return 2 * min(p, maxPeriod)
}

// at reports whether two callers have one address. Two machines that are both
// alive never have: their routes lead to the same next hop.
func (c Caller) at(o Caller) bool {
	return c.Address.IsValid() && c.Address == o.Address || c.Address6.IsValid() && c.Address6 == o.Address6
}

// known reports whether the caller has an address.
func (c Caller) known() bool { return c.Address.IsValid() || c.Address6.IsValid() }

// same reports whether two callers are one machine: of one instance and, where
// both have an address, of one address.
func (c Caller) same(o Caller) bool {
	return c.Instance == o.Instance && (c.at(o) || !c.known() || !o.known())
}

// Where returns the address to show.
func (c Caller) Where() string {
	switch {
	case c.Address.IsValid():
		return c.Address.String()
	case c.Address6.IsValid():
		return c.Address6.String()
	}
	return "an unknown address"
}

// newInstance returns a new random instance.
func newInstance() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: see crypto/rand
	return hex.EncodeToString(b[:])
}

// Holder is the machine that holds a node's name in a registry.
type Holder struct {
	Caller
	Since time.Time // it holds the name
	// Before is the former instance of the machine at this address: its database
	// was lost. If that instance returns, the machine has two databases in use,
	// and must not change from one to the other with every assert.
	Before string
}

// HeldError is the refusal of a registry: another machine holds the node's
// name. It wraps [ErrRefused].
type HeldError struct {
	Node   string
	Holder Holder
	Age    time.Duration // since the holder's last call
	Silent bool          // for longer than two of its periods: [Registry.TakeOver] takes the name from it
	By     Caller        // the rejected caller
	// Why the name is not taken from a silent holder; empty otherwise.
	Why string
}

// Error names both machines and the way out.
func (e *HeldError) Error() string {
	text := fmt.Sprintf("node name %q is held by another machine at %s, last asserted %v ago, since %s; this one is at %s",
		e.Node, e.Holder.Where(), e.Age.Round(time.Second), e.Holder.Since.UTC().Format(time.RFC3339), e.By.Where())
	if e.Holder.Instance == e.By.Instance {
		text += " and has the same database"
	}
	switch {
	case e.Why != "":
		text += ": it no longer asserts, but " + e.Why + "; if it is permanently gone"
	case e.Holder.Instance == e.By.Instance:
		text += ": if this machine is a copy, stop it, move onlink.db away and start it under its own name; if it has replaced the other one"
	default:
		text += ": give one of them another name (node.name or --node-name); if this one has replaced the other"
	}
	return fmt.Sprintf("%s, run here: onlinkctl ipam take-over %s", text, e.Node)
}

// Unwrap makes it an [ErrRefused].
func (e *HeldError) Unwrap() error { return ErrRefused }

// Admit is the rule of every registry: it returns the holder of a name after a
// call of by. The error is a [HeldError]. changed reports that the holder is to be
// recorded; one without an instance means that there is none.
//
//   - The first caller of a free name becomes its holder.
//   - The holder's own calls are accepted.
//   - A machine at the holder's address with another instance is the holder
//     with a new database. If the former instance returns, two databases are in
//     use on one machine, and the returning one is rejected.
//   - All others are rejected, also the holder's own instance at another
//     address, which may be a copy. Once the holder is silent they may take
//     over, see [Registry.TakeOver].
//
// age is the time since the holder's last call.
func Admit(h Holder, by Caller, age time.Duration) (next Holder, changed bool, err error) {
	silent := age > h.Patience()
	switch {
	case h.Instance == "" && by.Instance == "":
		return Holder{}, false, nil
	case h.Instance == "":
		return Holder{Caller: by, Since: time.Now()}, true, nil
	case h.same(by):
		next = Holder{Caller: by, Since: h.Since, Before: h.Before}
		return next, next.Caller != h.Caller, nil
	case by.Instance == "" && silent: // back to the version before
		return Holder{}, true, nil
	case by.Instance != "" && h.at(by) && by.Instance != h.Before && by.Instance != h.Instance:
		return Holder{Caller: by, Since: time.Now(), Before: h.Instance}, true, nil
	}
	return h, false, &HeldError{Node: by.Node, Holder: h, Age: age, Silent: silent, By: by}
}

// AdmitTakeOver is the rule of every registry for a take-over of the name that
// h holds. Without force a machine that called lately keeps it.
func AdmitTakeOver(name string, h Holder, by Caller, age time.Duration, force bool) error {
	silent := age > h.Patience()
	switch {
	case by.Instance == "":
		return fmt.Errorf("%w: a take-over needs an instance", ErrInvalidRequest)
	case h.Instance == "", h.same(by), silent, force:
		return nil
	}
	return &HeldError{Node: name, Holder: h, Age: age, By: by}
}

// AdmitRelease is the rule of every registry for the release of all blocks of a name
// that h holds. Without force a machine that called lately keeps them: it runs, and
// would withdraw all its blocks. The error is an [ErrRefused].
func AdmitRelease(name string, h Holder, age time.Duration, force bool) error {
	if force || h.Instance == "" || age > h.Patience() {
		return nil
	}
	return fmt.Errorf("%w: node %q runs at %s, and asserted its blocks %v ago: it would withdraw all of them. Stop it, and wait until it has been silent for %v",
		ErrRefused, name, h.Where(), age.Round(time.Second), h.Patience())
}
