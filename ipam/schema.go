package ipam

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// The buckets of the file.
var (
	bucketMeta        = []byte("onlink")      // what the file is
	bucketBlocks      = []byte("blocks")      // prefix -> heldBlock: blocks of this node
	bucketAssignments = []byte("assignments") // handle -> Assignment
	bucketFreed       = []byte("freed")       // address -> time it was freed
	bucketRegistry    = []byte("registry")    // prefix -> Block: owners, when this node serves the registry
	bucketFences      = []byte("fences")      // prefix -> epoch: released by force up to it
	bucketSticky      = []byte("sticky")      // workload -> sticky: the addresses it gets again
)

// The keys of bucketMeta.
const (
	metaSchema     = "schema"      // number of migrations done
	metaBoot       = "boot"        // boot ID of the last run
	metaEpoch      = "epoch"       // last epoch the registry gave
	metaSettleFrom = "settle-from" // when a damaged file was replaced by this one
)

// migrations lead from any older schema to the present one: entry n turns
// schema n into n+1. Entries are only ever appended.
var migrations = []func(*bolt.Tx) error{
	func(tx *bolt.Tx) error { // 1: the first schema
		for _, b := range [][]byte{bucketBlocks, bucketAssignments, bucketFreed, bucketRegistry, bucketFences} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	},
	func(tx *bolt.Tx) error { // 2: sticky addresses, also named in assignments
		_, err := tx.CreateBucketIfNotExists(bucketSticky)
		return err
	},
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
		return fmt.Errorf("%w: schema %d, known up to %d", ErrNewerSchema, have, len(steps))
	}
	for n := int(have); n < len(steps); n++ {
		if err := steps[n](tx); err != nil {
			return fmt.Errorf("migrate schema %d to %d: %w", n, n+1, err)
		}
	}
	if have == uint64(len(steps)) {
		return checkBuckets(tx)
	}
	return putMetaUint(tx, metaSchema, uint64(len(steps)))
}

// checkSchema accepts only a file of the present schema.
func checkSchema(tx *bolt.Tx) error {
	if tx.Bucket(bucketMeta) == nil {
		return fmt.Errorf("%w: no bucket of onlink", ErrForeign)
	}
	have, err := metaUint(tx, metaSchema)
	if err != nil {
		return err
	}
	if have != uint64(len(migrations)) {
		return fmt.Errorf("%w: schema %d, wanted %d", ErrNewerSchema, have, len(migrations))
	}
	return checkBuckets(tx)
}

// checkBuckets makes sure that the buckets are there, so that their users need
// not ask.
func checkBuckets(tx *bolt.Tx) error {
	for _, b := range [][]byte{bucketBlocks, bucketAssignments, bucketFreed, bucketRegistry, bucketFences, bucketSticky} {
		if tx.Bucket(b) == nil {
			return fmt.Errorf("%w: bucket %q is missing", ErrCorrupt, b)
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
