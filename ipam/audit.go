package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// maxAudit is how many entries of the audit are kept: the oldest go.
const maxAudit = 1000

// maxDenied is how many of them may be of denied calls, so that no caller pushes the
// forced actions out.
const maxDenied = 100

// maxAuditText bounds the strings of an entry.
const maxAuditText = 4096

// Actions of an [AuditEntry].
const (
	AuditReleaseNode    = "release-node"
	AuditReleaseAddress = "release-address"
	AuditTakeOver       = "take-over"
	AuditLogLevel       = "log-level"
	AuditDiags          = "diags"
	AuditDenied         = "denied" // a call that the caller may not make
)

// AuditEntry records a forced action of an operator, or a denied call. It is durable
// before the action, and completed afterwards: an entry that is not done means that
// the agent ended in between.
type AuditEntry struct {
	Began  time.Time
	Action string // such as [AuditReleaseNode]
	Target string // the node or address it was done to
	By     string // the author
	Done   bool
	Failed string         // why it failed; empty: it did not. Valid when Done
	Blocks []netip.Prefix // taken. Valid when Done
}

// BeginAudit stores an entry before the deed, and returns its number for
// [Store.EndAudit].
func (s *Store) BeginAudit(e AuditEntry) (uint64, error) {
	var n uint64
	err := s.update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketAudit)
		var err error
		if n, err = b.NextSequence(); err != nil {
			return err
		}
		if err := makeRoom(tx, e.Action == AuditDenied); err != nil {
			return err
		}
		return put(tx, bucketAudit, auditKey(n), encodeAudit(e))
	})
	if err != nil {
		return 0, fmt.Errorf("begin audit of %s %s: %w", e.Action, e.Target, err)
	}
	return n, nil
}

// makeRoom drops the oldest entry, or that of the denied calls for one more of them,
// when there is no room for another. One that cannot be read is no denied call: it
// must not keep a forced action from being recorded.
func makeRoom(tx *bolt.Tx, denied bool) error {
	var all, denials int
	var oldest, oldestDenial []byte
	err := tx.Bucket(bucketAudit).ForEach(func(k, v []byte) error {
		if all++; oldest == nil {
			oldest = slices.Clone(k)
		}
		p, err := unseal(bucketAudit, k, v)
		if err != nil {
			return nil //nolint:nilerr // see above
		}
		if e, err := decodeAudit(k, p); err == nil && e.Action == AuditDenied {
			if denials++; oldestDenial == nil {
				oldestDenial = slices.Clone(k)
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case denied && denials >= maxDenied:
		return tx.Bucket(bucketAudit).Delete(oldestDenial)
	case all >= maxAudit:
		return tx.Bucket(bucketAudit).Delete(oldest)
	}
	return nil
}

// EndAudit completes an entry with the taken blocks, or the reason why not all
// of them were. An entry that was dropped already is a success.
func (s *Store) EndAudit(n uint64, taken []Block, failed error) error {
	err := s.update(func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketAudit).Get(auditKey(n))
		if v == nil {
			return nil
		}
		p, err := unseal(bucketAudit, auditKey(n), v)
		if err != nil {
			return err
		}
		e, err := decodeAudit(auditKey(n), p)
		if err != nil {
			return err
		}
		e.Done = true
		for _, b := range taken {
			e.Blocks = append(e.Blocks, b.CIDR)
		}
		if failed != nil {
			e.Failed = failed.Error()
		}
		return put(tx, bucketAudit, auditKey(n), encodeAudit(e))
	})
	if err != nil {
		return fmt.Errorf("end audit %d: %w", n, err)
	}
	return nil
}

// Audit returns the entries, newest first.
func (s *Store) Audit() ([]AuditEntry, error) {
	var out []AuditEntry
	err := s.view(func(tx *bolt.Tx) (err error) {
		out, err = readAudit(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	slices.Reverse(out)
	return out, nil
}

// readAudit reads all entries, oldest first.
func readAudit(tx *bolt.Tx) ([]AuditEntry, error) {
	var out []AuditEntry
	err := forEach(tx, bucketAudit, func(k, v []byte) error {
		e, err := decodeAudit(k, v)
		out = append(out, e)
		return err
	})
	return out, err
}

// auditKey sorts entries as they were begun.
func auditKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func encodeAudit(e AuditEntry) []byte {
	v := appendTime(nil, e.Began)
	for _, text := range []string{e.Action, e.Target, e.By, e.Failed} {
		v = appendString(v, text[:min(len(text), maxAuditText)])
	}
	var done byte
	if e.Done {
		done = 1
	}
	v = append(v, done)
	for _, p := range e.Blocks { // up to the end
		v = append(v, prefixKey(p)...)
	}
	return v
}

func decodeAudit(key, payload []byte) (AuditEntry, error) {
	r := reader{b: payload}
	e := AuditEntry{Began: r.time(), Action: r.string(), Target: r.string(), By: r.string(), Failed: r.string(), Done: r.byte() != 0}
	for !r.bad && len(r.b) > 0 {
		e.Blocks = append(e.Blocks, r.prefix())
	}
	if len(key) != 8 {
		return e, errors.Join(fmt.Errorf("%w: audit key %x", ErrCorrupt, key), r.done("audit", key))
	}
	return e, r.done("audit", key)
}
