package ipam

import (
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// The buckets of the file.
var (
	bucketMeta        = []byte("onlink")      // the kind of the file
	bucketBlocks      = []byte("blocks")      // prefix -> heldBlock: blocks of this node
	bucketAssignments = []byte("assignments") // handle -> Assignment
	bucketFreed       = []byte("freed")       // address -> time it was freed
	bucketRegistry    = []byte("registry")    // prefix -> Block: owners, when this node serves the registry
	bucketFences      = []byte("fences")      // prefix -> epoch: released by force up to it
	bucketSticky      = []byte("sticky")      // workload -> sticky: the addresses it gets again
	bucketAudit       = []byte("audit")       // number -> AuditEntry
	bucketHolders     = []byte("holders")     // node -> Holder: the machine that holds the name, when this node serves the registry
)

// The keys of bucketMeta.
const (
	metaSchema     = "schema"      // number of migrations done
	metaBoot       = "boot"        // boot ID of the last run
	metaEpoch      = "epoch"       // last epoch the registry gave
	metaSettleFrom = "settle-from" // since when the registry waits for the nodes
	metaIdentity   = "identity"    // identity: the owner of the file
	metaPodMTUs    = "pod-mtus"    // given to pods by default, the latest first
)

// schemaBuckets are the buckets that each schema added to the one before:
// entry n belongs to schema n+1. Entries are only ever appended.
var schemaBuckets = [][][]byte{
	{bucketBlocks, bucketAssignments, bucketFreed, bucketRegistry, bucketFences},
	{bucketSticky}, // sticky addresses, also named in assignments
	{bucketAudit},
	{bucketHolders},
}

// migrations lead from any older schema to the present one: entry n turns
// schema n into n+1. Entries are only ever appended.
var migrations = []func(*bolt.Tx) error{
	addBuckets(1),
	addBuckets(2),
	addBuckets(3),
	addBuckets(4),
}

// errOlderSchema is the error of [checkSchema] for a file that a migration brings
// up to date.
var errOlderSchema = errors.New("database was written by an older version")

// addBuckets is the migration to a schema that only adds buckets.
func addBuckets(schema int) func(*bolt.Tx) error {
	return func(tx *bolt.Tx) error {
		for _, b := range schemaBuckets[schema-1] {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	}
}

// migrate brings the file to the newest schema in the caller's transaction:
// all steps or none.
func migrate(tx *bolt.Tx, steps []func(*bolt.Tx) error) error {
	if tx.Bucket(bucketMeta) == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return fmt.Errorf("%w: it has a bucket %q and none of onlink", ErrForeign, k)
		}
		if _, err := tx.CreateBucket(bucketMeta); err != nil {
			return err
		}
	}
	have, err := metaUint(tx, metaSchema)
	if err != nil {
		return err
	}
	if have > uint64(len(steps)) {
		return fmt.Errorf("%w: schema %d, supported up to %d", ErrNewerSchema, have, len(steps))
	}
	if err := checkBuckets(tx, have); err != nil {
		return err
	}
	for n := int(have); n < len(steps); n++ {
		if err := steps[n](tx); err != nil {
			return fmt.Errorf("migrate schema %d to %d: %w", n, n+1, err)
		}
	}
	if have == uint64(len(steps)) {
		return nil
	}
	return putMetaUint(tx, metaSchema, uint64(len(steps)))
}

// checkSchema accepts only a file of the present schema. A sound one of an
// older schema is [errOlderSchema].
func checkSchema(tx *bolt.Tx) error {
	if tx.Bucket(bucketMeta) == nil {
		return fmt.Errorf("%w: no bucket of onlink", ErrForeign)
	}
	have, err := metaUint(tx, metaSchema)
	if err != nil {
		return err
	}
	known := uint64(len(migrations))
	switch {
	case have == 0:
		return fmt.Errorf("%w: its schema is missing", ErrCorrupt)
	case have > known:
		return fmt.Errorf("%w: schema %d, supported up to %d", ErrNewerSchema, have, known)
	}
	if err := checkBuckets(tx, have); err != nil {
		return err
	}
	if have < known {
		return fmt.Errorf("%w: schema %d, present is %d", errOlderSchema, have, known)
	}
	return nil
}

// checkBuckets makes sure that the buckets of a schema exist, so that their users
// need not check.
func checkBuckets(tx *bolt.Tx, schema uint64) error {
	for _, added := range schemaBuckets[:min(schema, uint64(len(schemaBuckets)))] {
		for _, b := range added {
			if tx.Bucket(b) == nil {
				return fmt.Errorf("%w: bucket %q is missing", ErrCorrupt, b)
			}
		}
	}
	return nil
}

// getMeta returns a value of the meta bucket, nil when absent.
func getMeta(tx *bolt.Tx, key string) ([]byte, error) {
	v := tx.Bucket(bucketMeta).Get([]byte(key))
	if v == nil {
		return nil, nil
	}
	return unseal(bucketMeta, []byte(key), v)
}

// putMeta writes a value of the meta bucket.
func putMeta(tx *bolt.Tx, key string, payload []byte) error {
	return tx.Bucket(bucketMeta).Put([]byte(key), seal(bucketMeta, []byte(key), payload))
}
