package labtest

import (
	"flag"
	"time"
)

// SettleLimit bounds the time in which database, kernel and registry must agree
// after trouble.
const SettleLimit = 10 * time.Second

// Back is the promised time in which onlink restores state that was removed by
// hand.
const Back = 10 * time.Second

// Patience bounds a wait for a change that onlink promises without a time, or
// sooner than a busy machine can show.
const Patience = time.Minute

// Long selects the long forms of the tests that repeat something:
//
//	make test-long
var Long = flag.Bool("long", false, "repeat restarts, withdrawals and measurements as often as is promised")

// Times returns how often a test repeats: short, or with -long full.
func Times(short, full int) int {
	if *Long {
		return full
	}
	return short
}
