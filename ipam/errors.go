package ipam

import "errors"

// Errors of a configuration.
var (
	// ErrInvalidPool is returned when a pool's definition is not usable; the
	// wrapping error names the field and the fix.
	ErrInvalidPool = errors.New("invalid pool")
	// ErrInvalidRequest is returned for a request or handle that cannot be
	// served in any state.
	ErrInvalidRequest = errors.New("invalid request")
)

// Errors of an allocation.
var (
	// ErrExhausted is returned when no pool in question has an address left.
	ErrExhausted = errors.New("no address left")
	// ErrAddressInUse is returned for a requested address that another
	// attachment has.
	ErrAddressInUse = errors.New("address in use")
	// ErrClaimFailed is returned when an address needs a new block and the
	// registry did not answer; the caller may try again later.
	ErrClaimFailed = errors.New("block claim failed")
	// ErrOtherNode is returned for new addresses while the database is that of
	// a node of another name.
	ErrOtherNode = errors.New("database of another node")
	// ErrUnconfirmed is returned for new addresses until the registry confirms
	// that this machine is the one of the database.
	ErrUnconfirmed = errors.New("no address is assigned")
	// ErrClosed is returned after [Allocator.Run] has ended.
	ErrClosed = errors.New("allocator closed")
)

// Errors of a registry. Implementations on a wire must preserve them: the
// allocator distinguishes them with [errors.Is].
var (
	// ErrPoolExhausted is returned by Claim when the pool has no free block.
	ErrPoolExhausted = errors.New("pool has no free block")
	// ErrBlockTaken is returned by Claim for an exact block that another node
	// owns or that overlaps one.
	ErrBlockTaken = errors.New("block is taken")
	// ErrNotOwner is returned by Release for a block that the node does not
	// own with that epoch.
	ErrNotOwner = errors.New("node does not own the block")
	// ErrSettling is returned by Claim for a while after a registry was lost,
	// until the nodes had time to assert their blocks.
	ErrSettling = errors.New("registry waits for nodes to assert their blocks")
	// ErrRefused is returned for a call of a machine that is not the holder of
	// the node's name; see [HeldError]. The registry has answered: the machine
	// owns nothing. A release of a running node's blocks without force is refused,
	// too, see [AdmitRelease].
	ErrRefused = errors.New("refused by the registry")
	// ErrNotPermitted is returned for a call that the role of this machine's
	// certificate does not permit. It says nothing about the machine's blocks.
	ErrNotPermitted = errors.New("not permitted by the registry")
	// ErrUnlisted is returned by List of all nodes by a registry that lists each
	// node only its own blocks: the owners of others are unknown there.
	ErrUnlisted = errors.New("this registry lists only the node's own blocks")
)

// Errors of the store.
var (
	// ErrLocked is returned when another process has the file open.
	ErrLocked = errors.New("database is in use")
	// ErrCorrupt is returned for a damaged file.
	ErrCorrupt = errors.New("database is damaged")
	// ErrForeign is returned for a sound file of another program.
	ErrForeign = errors.New("database belongs to another program")
	// ErrNewerSchema is returned for a file that a newer version wrote.
	ErrNewerSchema = errors.New("database was written by a newer version")
)

// ErrPoolInUse is returned by [Allocator.SetPools] when a pool that is to go
// has assigned addresses.
var ErrPoolInUse = errors.New("pool is in use")
