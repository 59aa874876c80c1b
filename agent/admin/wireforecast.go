package admin

import (
	"onlink/agent/forecast"
	"onlink/bgp"
	onlinkv1 "onlink/proto/v1"
)

// This file translates forecasts into messages.

// forecastItems bounds the lists of a requested forecast.
func forecastItems(asked uint32) int { return int(min(asked, forecast.MaxItems)) }

func forecastToWire(r *forecast.Result) *onlinkv1.Forecast {
	if r == nil {
		return nil
	}
	w := &onlinkv1.Forecast{
		Installs: listToWire(&r.Installs), Removes: listToWire(&r.Removes), Replaces: listToWire(&r.Replaces),
		Mistakes: r.Mistakes, Restart: r.Restart, Unknown: r.Unknown,
	}
	for i := range r.Sessions {
		s := &r.Sessions[i]
		w.Sessions = append(w.Sessions, &onlinkv1.SessionForecast{
			Name: s.Name, Address: addrToWire(s.Address), Role: s.Role.String(), Up: s.Up, Fate: string(s.Fate), Why: s.Why,
			Advertised: count(s.Advertised), Accepted: count(s.Accepted),
			Announces: listToWire(&s.Effects[bgp.Announces]), Withdraws: listToWire(&s.Effects[bgp.Withdraws]),
			AnnouncesChanged: listToWire(&s.Effects[bgp.AnnouncesChanged]), Accepts: listToWire(&s.Effects[bgp.Accepts]),
			Drops: listToWire(&s.Effects[bgp.Drops]), AcceptsChanged: listToWire(&s.Effects[bgp.AcceptsChanged]),
		})
	}
	return w
}

func listToWire(l *forecast.List) *onlinkv1.ForecastList {
	w := &onlinkv1.ForecastList{Count: count(l.Count)}
	for _, i := range l.First {
		w.First = append(w.First, &onlinkv1.ForecastRoute{Prefix: i.Prefix.String(), Text: i.Text})
	}
	return w
}
