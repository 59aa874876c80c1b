package tunnel

import (
	"onlink/internal/ours"
)

// Losses are the packets that a tunnel device has lost since it was made, by the
// kernel's counters of it (rtnl_link_stats64). The ones that it could not wrap or send
// are in Sent, those that it could not unwrap in Received.
type Losses struct {
	Device         string
	Sent, Received struct{ Dropped, Errors uint64 }
}

// Lost returns the losses of onlink's tunnel devices. It reads alone, with a socket of
// its own, so any goroutine may call it beside an [Ensurer].
func Lost() ([]Losses, error) {
	e := Ensurer{}
	if err := e.open(); err != nil {
		return nil, err
	}
	defer e.Close()
	var out []Losses
	for _, name := range []string{ours.DeviceIPIP, ours.DeviceIP6, ours.DeviceVXLAN, ours.DeviceVXLAN6} {
		link, err := e.find(name)
		if err != nil {
			return nil, err
		}
		if link == nil || !IsOurs(link.Type(), link.Attrs().Alias) || link.Attrs().Statistics == nil {
			continue
		}
		s, one := link.Attrs().Statistics, Losses{Device: name}
		one.Sent.Dropped, one.Sent.Errors = s.TxDropped, s.TxErrors
		one.Received.Dropped, one.Received.Errors = s.RxDropped, s.RxErrors
		out = append(out, one)
	}
	return out, nil
}
