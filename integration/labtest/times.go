package labtest

import (
	"flag"
	"time"
)

// SettleLimit bounds how long database, kernel and registry may take to agree
// after trouble.
const SettleLimit = 10 * time.Second

// Back is how soon onlink restores what was removed by hand: a promise.
const Back = 10 * time.Second

// Patience bounds a wait for what onlink promises without a time, or sooner
// than a busy machine can show.
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
