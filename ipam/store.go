package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"onlink/internal/atomicfile"
)

// initialMap is how much address space the file is mapped with at first, so
// that growing it does not wait for readers. It costs no memory.
const initialMap = 64 << 20

// growBy is how much the file grows at a time: a commit that grows it costs a
// third flush, and a backup copies all of it.
const growBy = 256 << 10

// StoreOptions are the options for opening a store; the zero value is the default.
type StoreOptions struct {
	// LockWait bounds the wait for another process to release the file (default
	// 1 s).
	LockWait time.Duration
	// MoveAside renames a damaged file to PATH.corrupt-TIME and starts an
	// empty one. A sound file of another program is never moved.
	MoveAside bool
	// Lost reports that the file, if it does not exist, once did: the registry in
	// the new one waits for the nodes to assert their blocks, as after MoveAside.
	// With MoveAside a sound file is an older copy, too.
	Lost bool
	// Marker is a file outside the state folder, which a reboot removes, with the
	// last epoch that the registry in this file gave. A file that is older than
	// its marker settles. Empty: there is none.
	Marker string
	// ReadOnly opens the file for checks: nothing is created or changed.
	ReadOnly bool
	// Log receives events of the opening; nil means none.
	Log *slog.Logger
}

// Store is the node's file: its blocks, its assignments, and the registry when
// this node serves one. One process has it open at a time.
type Store struct {
	db      *bolt.DB
	path    string
	aside   string
	started bool // this call created the file
	marker  string
	older   bool       // than the marker
	marking sync.Mutex // guards marked and the marker's file
	marked  uint64     // in the marker
	heard   *heardFrom
	// fresh is the file's content when it was opened, for the first reader; nil
	// after the first write.
	fresh atomic.Pointer[contents]
	// broken keeps the first fault bbolt panicked with: the file is not
	// trusted after it.
	broken atomic.Pointer[error]
}

// OpenStore opens the file at path, creates it (mode 0600) when it does not
// exist, and migrates an older schema.
//
// Errors: [ErrLocked] names the process that has the file, [ErrCorrupt] and
// [ErrForeign] name the file and the way out, [ErrNewerSchema]. The file is
// then as it was: nothing is ever overwritten.
func OpenStore(path string, opt StoreOptions) (*Store, error) {
	if opt.LockWait == 0 {
		opt.LockWait = time.Second
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s, err := openExisting(path, opt)
	var aside string
	if errors.Is(err, ErrCorrupt) && opt.MoveAside && !opt.ReadOnly {
		aside = path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000Z")
		opt.Log.Error("database is damaged, moving it aside", "file", path, "moved_to", aside, "err", err)
		if err := os.Rename(path, aside); err != nil {
			return nil, fmt.Errorf("move damaged database aside: %w", err)
		}
		err = os.ErrNotExist
	}
	if errors.Is(err, os.ErrNotExist) && !opt.ReadOnly {
		if err := create(path, aside != "" || opt.Lost, opt); err != nil {
			return nil, fmt.Errorf("create database %s: %w", path, err)
		}
		if s, err = openExisting(path, opt); err == nil {
			s.started = true
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, explain(err))
	}
	s.aside, s.marker = aside, opt.Marker
	if opt.MoveAside && opt.Lost && !s.started { // the operator declares it older
		s.older = true
		err = s.update(forgetHolders)
	}
	if err := errors.Join(err, s.compareMarker()); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), s.Close())
	}
	return s, nil
}

// explain adds the way out to an error of opening.
func explain(err error) error {
	switch {
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%w: start onlinkd --repair-database, which moves the file aside and rebuilds from the running pods, or restore a backup", err)
	case errors.Is(err, ErrForeign):
		return fmt.Errorf("%w: point the state path elsewhere", err)
	case errors.Is(err, ErrNewerSchema):
		return fmt.Errorf("%w: start that version or restore a backup from before the upgrade", err)
	}
	return err
}

// openExisting opens the file when it exists.
func openExisting(path string, opt StoreOptions) (*Store, error) {
	s := &Store{path: path, heard: newHeardFrom()}
	err := s.contain(func() error {
		var err error
		s.db, err = openBolt(path, opt, true)
		return err
	})
	if err != nil {
		s.broken.Store(nil)
		return nil, err
	}
	err = s.view(checkSchema)
	switch {
	case err != nil && !opt.ReadOnly: // only then is a write worth its flush
		err = s.update(func(tx *bolt.Tx) error { return migrate(tx, migrations) })
	case errors.Is(err, errOlderSchema):
		err = nil // readable as it is: a missing bucket is empty
	}
	var c *contents
	if err == nil {
		c, err = s.load() // every record must be readable before anyone relies on one
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.fresh.Store(c)
	return s, nil
}

// openBolt opens path, which exists, after taking its lock and checking its
// pages: bbolt itself trusts them and would fault on damaged ones.
func openBolt(path string, opt StoreOptions, check bool) (*bolt.DB, error) {
	var file *os.File
	opened := false
	defer func() {
		if !opened && file != nil {
			_ = file.Close() // bbolt has closed it, unless it panicked
		}
	}()
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		FreelistType:    bolt.FreelistMapType,
		NoStatistics:    true,
		InitialMmapSize: initialMap,
		ReadOnly:        opt.ReadOnly,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(path, flag&^os.O_CREATE, mode)
			if err != nil {
				return nil, err
			}
			if err := lockFile(f, opt.ReadOnly, opt.LockWait); err != nil {
				return nil, errors.Join(err, f.Close())
			}
			if check {
				if err := checkPages(f); err != nil {
					return nil, errors.Join(err, f.Close())
				}
			}
			file = f
			return f, nil
		},
	})
	opened = err == nil
	if opened {
		db.AllocSize = growBy
	}
	return db, err
}

// create makes a store with an empty schema appear at path in one step, so
// that a crash leaves either no file or a whole one.
func create(path string, recovered bool, opt StoreOptions) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // removed already on success
	if err := tmp.Close(); err != nil {
		return err
	}
	db, err := openBolt(tmp.Name(), StoreOptions{LockWait: opt.LockWait}, false)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if err := migrate(tx, migrations); err != nil || !recovered {
			return err
		}
		return startSettling(tx)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces a file that came meanwhile.
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Path returns the file's name.
func (s *Store) Path() string { return s.path }

// MovedAside returns where a damaged file was moved when the store was opened;
// empty when there was none.
func (s *Store) MovedAside() string { return s.aside }

// Created reports whether opening the store created its file.
func (s *Store) Created() bool { return s.started }

// Close closes the file and gives its lock back.
func (s *Store) Close() error {
	return s.contain(s.db.Close)
}

// Backup writes a consistent copy of the file to w while the store is in use.
// To restore, put the copy in the file's place while no agent runs.
func (s *Store) Backup(w io.Writer) error {
	return s.view(func(tx *bolt.Tx) error {
		_, err := tx.WriteTo(w)
		return err
	})
}

// update runs f in a durable transaction.
func (s *Store) update(f func(*bolt.Tx) error) error {
	s.fresh.Store(nil)
	return s.contain(func() error { return s.db.Update(f) })
}

// view runs f in a read transaction.
func (s *Store) view(f func(*bolt.Tx) error) error {
	return s.contain(func() error { return s.db.View(f) })
}

// contain turns a panic or a memory fault inside bbolt (damaged page, a disk
// that cannot be read) into an error, for good: nothing after it is trusted.
func (s *Store) contain(f func() error) (err error) {
	if e := s.broken.Load(); e != nil {
		return *e
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, r)
			s.broken.CompareAndSwap(nil, &err)
		}
	}()
	return f()
}

// metaUint reads a number of the meta bucket; absent is 0.
func metaUint(tx *bolt.Tx, key string) (uint64, error) {
	v, err := getMeta(tx, key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("%w: meta %q: %d bytes", ErrCorrupt, key, len(v))
	}
	return binary.LittleEndian.Uint64(v), nil
}

// putMetaUint writes a number of the meta bucket.
func putMetaUint(tx *bolt.Tx, key string, n uint64) error {
	return putMeta(tx, key, binary.LittleEndian.AppendUint64(nil, n))
}
