package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
)

const (
	// firstMeasure is the time over which the first figures are taken, refresh that between two displays.
	firstMeasure = 500 * time.Millisecond
	refresh      = time.Second
)

func (a *app) stats() *cobra.Command {
	var m meter
	var noStream bool
	var format string
	cmd := &cobra.Command{
		Use:   "stats [OPTIONS] [CONTAINER...]",
		Short: "Show what running containers use, live",
		Args:  atLeast(0),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var err error
			if format, err = a.format(format, false, func(d config.Docker) string { return d.StatsFormat }); err != nil {
				return err
			}
			m.names, m.before = args, map[string]container.Usage{}
			return a.with(ctx, func(e *engine.Engine) (err error) {
				if m.s, err = e.Containers(); err != nil {
					return err
				}
				list := render.List{Format: format, Columns: render.StatsColumns()}
				if noStream {
					rows, err := m.first(ctx)
					if err != nil {
						return err
					}
					return render.Rows(a.out, list, rows)
				}
				return a.watch(ctx, &m, list)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&m.all, "all", "a", false, "show those that do not run too")
	fl.BoolVar(&m.noTrunc, "no-trunc", false, "show whole ids")
	fl.BoolVar(&noStream, "no-stream", false, "show the figures once")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

// watch shows the figures again and again, until the context ends or no container that was named is left.
func (a *app) watch(ctx context.Context, m *meter, list render.List) error {
	screen := render.NewScreen(a.out)
	rows, err := m.first(ctx)
	for ; err == nil; rows, err = m.next(ctx, refresh) {
		if len(m.names) > 0 && len(rows) == 0 {
			return nil
		}
		var b bytes.Buffer
		if err := render.Rows(&b, list, rows); err != nil {
			return err
		}
		if err := screen.Show(b.Bytes()); err != nil {
			return err
		}
	}
	// Who watches ends it by a signal: nothing went wrong.
	var sig interrupted
	if errors.As(context.Cause(ctx), &sig) {
		return status(128 + int(sig.sig))
	}
	return err
}

// meter measures containers.
type meter struct {
	s            *container.Store
	names        []string
	all, noTrunc bool
	// before is what was found the last time, by id.
	before map[string]container.Usage
}

// first gives the first figures. What was used of a processor is known after a while only, if anything runs at all.
func (m *meter) first(ctx context.Context) ([]render.StatsRow, error) {
	records, err := m.records(ctx, false)
	if err != nil {
		return nil, err
	}
	running := false
	for _, rec := range records {
		if _, err := m.row(rec); err != nil {
			return nil, err
		}
		running = running || rec.State.Alive()
	}
	if !running {
		return m.next(ctx, 0)
	}
	return m.next(ctx, firstMeasure)
}

// next gives the figures after pause.
func (m *meter) next(ctx context.Context, pause time.Duration) ([]render.StatsRow, error) {
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(pause):
	}
	records, err := m.records(ctx, true)
	if err != nil {
		return nil, err
	}
	rows := make([]render.StatsRow, 0, len(records))
	for _, rec := range records {
		row, err := m.row(rec)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// records are the containers to show now. forgive leaves out one that was named and is gone by now.
func (m *meter) records(ctx context.Context, forgive bool) ([]container.Record, error) {
	var records []container.Record
	for _, name := range m.names {
		rec, err := m.s.Lookup(ctx, name)
		if forgive && errors.Is(err, errdef.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	if len(m.names) > 0 {
		return records, nil
	}
	list, err := m.s.List(ctx)
	for _, rec := range list {
		if m.all || rec.State.Alive() {
			records = append(records, rec)
		}
	}
	return records, err
}

// row measures one container.
func (m *meter) row(rec container.Record) (render.StatsRow, error) {
	u, err := m.s.Usage(rec)
	if err != nil {
		return render.StatsRow{}, fmt.Errorf("container %s: %w", rec.Name, err)
	}
	cpu := u.Percent(m.before[rec.ID])
	m.before[rec.ID] = u
	row := render.StatsRow{
		Container: render.ID(rec.ID, m.noTrunc), ID: render.ID(rec.ID, m.noTrunc), Name: rec.Name,
		CPUPerc: render.Percent(cpu), MemPerc: render.Percent(0),
		MemUsage: render.BinarySize(u.Memory) + " / " + render.BinarySize(u.Limit),
		NetIO:    render.Pair(u.Received, u.Sent), BlockIO: render.Pair(u.Read, u.Written), PIDs: fmt.Sprint(u.Pids),
	}
	if u.Limit > 0 {
		row.MemPerc = render.Percent(float64(u.Memory) * 100 / float64(u.Limit))
	}
	return row, nil
}
