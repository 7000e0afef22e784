package cli

import (
	"time"

	"github.com/spf13/cobra"

	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/oci"
)

// healthFlags are those flags of run and create that say how a container is watched, and when it is started again.
type healthFlags struct {
	command, restart                              string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	none                                          bool
}

func (f *healthFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.command, "health-cmd", "", "command that checks whether the container is healthy, run by a shell")
	fl.DurationVar(&f.interval, "health-interval", 0, "time between two checks; 30s unless given")
	fl.DurationVar(&f.timeout, "health-timeout", 0, "time that a check may take; 30s unless given")
	fl.DurationVar(&f.startPeriod, "health-start-period", 0, "time at the start in which failures do not count")
	fl.DurationVar(&f.startInterval, "health-start-interval", 0, "time between two checks at the start; 5s unless given")
	fl.IntVar(&f.retries, "health-retries", 0, "failures one after another that make it unhealthy; 3 unless given")
	fl.BoolVar(&f.none, "no-healthcheck", false, "run no check, whatever the image says")
	fl.StringVar(&f.restart, "restart", "no", "start it again when it ends: no, on-failure[:N], always, unless-stopped")
}

func (f *healthFlags) read(o *engine.CreateOptions) (err error) {
	if o.Host.Restart, err = container.ParseRestart(f.restart); err != nil {
		return usageError{err}
	}
	check := oci.Healthcheck{Interval: f.interval, Timeout: f.timeout, StartPeriod: f.startPeriod, StartInterval: f.startInterval, Retries: f.retries}
	if f.command != "" {
		check.Test = []string{"CMD-SHELL", f.command}
	}
	set := f.command != "" || f.interval != 0 || f.timeout != 0 || f.startPeriod != 0 || f.startInterval != 0 || f.retries != 0
	switch {
	case f.none && set:
		return usagef("--no-healthcheck conflicts with --health-* options")
	case f.none:
		o.Config.Healthcheck = &oci.Healthcheck{Test: []string{"NONE"}}
	case set:
		o.Config.Healthcheck = &check
	}
	return nil
}
