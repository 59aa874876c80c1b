package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The marker is a file apart from the database, in a folder that a reboot
// empties, with the last epoch that the registry in the database gave. A database
// that was restored from a backup, or lost, is behind it, and its registry would
// assign blocks that other nodes have claimed since: it waits until they have
// asserted them.

// compareMarker makes the registry settle when the marker has a later claim than
// the file.
func (s *Store) compareMarker() error {
	if s.marker == "" {
		return nil
	}
	text, err := os.ReadFile(s.marker)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read registry marker: %w", err)
	}
	marked, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return nil //nolint:nilerr // truncated by a full disk: it is ignored, and the next claim writes it again
	}
	s.marked = marked
	return s.update(func(tx *bolt.Tx) error {
		last, err := metaUint(tx, metaEpoch)
		if err != nil || marked <= last {
			return err
		}
		s.older = true
		if err := putMetaUint(tx, metaEpoch, marked); err != nil {
			return err
		}
		return forgetHolders(tx)
	})
}

// mark writes an epoch to the marker, before any node receives it.
func (s *Store) mark(epoch uint64) error {
	if s.marker == "" {
		return nil
	}
	s.marking.Lock()
	defer s.marking.Unlock()
	if epoch <= s.marked { // a block that was given again
		return nil
	}
	tmp := s.marker + ".new"
	if err := os.WriteFile(tmp, []byte(strconv.FormatUint(epoch, 10)+"\n"), 0o600); err != nil {
		return fmt.Errorf("write registry marker: %w", err)
	}
	if err := os.Rename(tmp, s.marker); err != nil {
		return fmt.Errorf("write registry marker: %w", err)
	}
	s.marked = epoch
	return nil
}

// Older reports whether the registry has given blocks that the file lacks: an
// older copy was restored, or the file was lost.
func (s *Store) Older() bool { return s.older }

// startSettling makes the registry refuse claims for its settling time.
func startSettling(tx *bolt.Tx) error {
	return putMeta(tx, metaSettleFrom, appendTime(nil, time.Now()))
}
