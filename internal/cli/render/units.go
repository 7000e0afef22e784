package render

import (
	"fmt"
	"time"
)

// HumanSize is a size as docker writes it: decimal units, four significant digits ("12.35MB").
func HumanSize(bytes int64) string { return HumanSizePrecision(bytes, 4) }

// HumanSizePrecision is [HumanSize] with another number of significant digits, at least 3, which docker's image and history
// listings use.
func HumanSizePrecision(bytes int64, digits int) string {
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	size, i := float64(bytes), 0
	for i < len(units)-1 && (size >= 1000 || roundsUp(size, digits)) {
		size /= 1000
		i++
	}
	return fmt.Sprintf("%.*g%s", digits, size, units[i])
}

// BinarySize is a size of memory as docker writes it: binary units, four significant digits ("12.35MiB").
func BinarySize(bytes int64) string {
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	size, i := float64(bytes), 0
	for i < len(units)-1 && size >= 1024 {
		size /= 1024
		i++
	}
	return fmt.Sprintf("%.4g%s", size, units[i])
}

// roundsUp reports whether size, below 1000, is written as 1000: "%.3g" would make that "1e+03".
func roundsUp(size float64, digits int) bool {
	half := 0.5
	for range digits - 3 {
		half /= 10
	}
	return size >= 1000-half
}

// HumanDuration is a duration as docker writes it: one rounded unit ("About an hour", "3 weeks").
func HumanDuration(d time.Duration) string {
	const day, week, month, year = 24, 7 * 24, 30 * 24, 365 * 24
	seconds, minutes, hours := int(d.Seconds()), int(d.Minutes()), int(d.Hours()+0.5)
	switch {
	case seconds < 1:
		return "Less than a second"
	case seconds == 1:
		return "1 second"
	case seconds < 60:
		return fmt.Sprintf("%d seconds", seconds)
	case minutes == 1:
		return "About a minute"
	case minutes < 60:
		return fmt.Sprintf("%d minutes", minutes)
	case hours == 1:
		return "About an hour"
	case hours < 2*day:
		return fmt.Sprintf("%d hours", hours)
	case hours < 2*week:
		return fmt.Sprintf("%d days", hours/day)
	case hours < 2*month:
		return fmt.Sprintf("%d weeks", hours/week)
	case hours < 2*year:
		return fmt.Sprintf("%d months", hours/month)
	}
	return fmt.Sprintf("%d years", int(d.Hours())/year)
}

// Ago is the time since t ("5 minutes ago"). A time that nobody recorded or that was clamped to the epoch is "N/A".
func Ago(t, now time.Time) string {
	if t.Unix() <= 0 {
		return "N/A"
	}
	return HumanDuration(now.Sub(t)) + " ago"
}

// Stamp is t as docker's CREATED AT columns write it, in the local zone.
func Stamp(t time.Time) string {
	return t.Local().Truncate(time.Second).Format("2006-01-02 15:04:05 -0700 MST")
}
