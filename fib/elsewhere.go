package fib

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"onlink/internal/ours"
)

// SweepElsewhere removes the routes of our protocol from every table but this one
// and the spared ones: a former run may have written to another table, where they
// would stay for ever. It returns the number of removed routes. Call it once a
// run, after [Table.AllowSweep].
func (t *Table) SweepElsewhere(ctx context.Context, spared ...uint32) (removed int, err error) {
	n, err := openNetlink(Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, n.close()) }()
	byTable, err := n.everywhere(append(spared, t.cfg.Table))
	if err != nil {
		return 0, err
	}
	for table, reqs := range byTable {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		n.enc.table = table
		if err := n.write(reqs); err != nil {
			return removed, fmt.Errorf("remove routes of a former run from table %d: %w", table, err)
		}
		for _, r := range reqs {
			switch {
			case r.err == nil:
				removed++
			case errors.Is(r.err, unix.ESRCH), errors.Is(r.err, unix.ENOENT): // gone meanwhile
			default:
				return removed, fmt.Errorf("remove route %s of a former run from table %d: %w", r.key.prefix, table, r.err)
			}
		}
	}
	return removed, nil
}

// everywhere returns requests that remove our routes, by table.
func (n *netlink) everywhere(spared []uint32) (map[uint32][]request, error) {
	var out map[uint32][]request
	var err error
	for range readAttempts {
		out = map[uint32][]request{}
		err = n.allTables(ours.Protocol, func(r *wireRoute) {
			if !slices.Contains(spared, r.table) {
				out[r.table] = append(out[r.table], request{verb: deleteRoute, key: r.key})
			}
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return out, err
}
