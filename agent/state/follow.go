package state

import (
	"context"
	"time"
)

const (
	// FollowEvery is the least time between two snapshots for followers, which share
	// them; followShare is how many times as long as the gathering of one it is at
	// least, up to followLast: a reflector with thousands of sessions spends no more
	// than that on its followers.
	FollowEvery = time.Second
	followShare = 100
	followLast  = 10 * time.Second
)

// Source has snapshots: a [Board].
type Source interface {
	// Since returns a snapshot that was begun at t or later.
	Since(ctx context.Context, t time.Time) (*Snapshot, error)
}

// Follow calls each with the present snapshot and then with newer ones, until ctx
// ends, whose error it returns, or each returns an error. Nothing is gathered for a
// follower while each runs.
func Follow(ctx context.Context, from Source, each func(*Snapshot) error) error {
	since := time.Now()
	for {
		began := time.Now()
		snap, err := from.Since(ctx, since)
		if err != nil {
			return err
		}
		pause := min(max(FollowEvery, followShare*time.Since(began)), followLast)
		if err := each(snap); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		since = time.Now().Add(-FollowEvery / 2) // one snapshot serves all followers of this moment
	}
}
