package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"github.com/hallmark-pki/hallmark/fleet"
)

// importChunk is how many lines of an import are compared with the register
// at a time.
const importChunk = 512

// importDevices takes the lines into the register, in order of id, so that two
// imports, or an import and the issuing to many devices, never wait for each
// other in a circle.
func (s *session) importDevices(ctx context.Context, c *fleet.Change) (fleet.Imported, error) {
	var done fleet.Imported
	lines := claimSerials(c.Import, &done)
	slices.SortStableFunc(lines, func(a, b *fleet.Line) int { return cmp.Compare(a.Device.ID, b.Device.ID) })
	for len(lines) > 0 {
		n := min(importChunk, len(lines))
		for n < len(lines) && lines[n].Device.ID == lines[n-1].Device.ID {
			n++ // all lines about one device belong to one chunk
		}
		chunk := importing{session: s, at: c.At.UnixMilli(), done: &done}
		if err := chunk.take(ctx, lines[:n]); err != nil {
			return done, err
		}
		lines = lines[n:]
	}
	slices.SortFunc(done.Errors, func(a, b fleet.LineError) int { return cmp.Compare(a.Line, b.Line) })
	return done, nil
}

// claimSerials drops the lines that give a serial number to a second device of the same file.
func claimSerials(lines []fleet.Line, done *fleet.Imported) []*fleet.Line {
	claimed := make(map[string]*fleet.Line, len(lines))
	kept := make([]*fleet.Line, 0, len(lines))
	for i := range lines {
		line := &lines[i]
		if serial := line.Device.Serial; serial != "" {
			if first := claimed[serial]; first == nil {
				claimed[serial] = line
			} else if first.Device.ID != line.Device.ID {
				done.Errors = append(done.Errors, serialTaken(line, fmt.Sprintf("device %q on line %d", first.Device.ID, first.Number)))
				continue
			}
		}
		kept = append(kept, line)
	}
	return kept
}

func serialTaken(line *fleet.Line, by string) fleet.LineError {
	return fleet.LineError{Line: line.Number, ID: line.Device.ID,
		Says: fmt.Sprintf("serial %q belongs to %s already", line.Device.Serial, by)}
}

// importing is one chunk of an import.
type importing struct {
	*session
	at     int64
	done   *fleet.Imported
	known  map[string]*known // by id
	owners map[string]string // serial → id
}

// known is a device of the chunk as it stands, or will stand.
type known struct {
	fleet.Device
	seq     int64
	created bool
	changed bool
}

func (m *importing) take(ctx context.Context, lines []*fleet.Line) error {
	if err := m.look(ctx, lines); err != nil {
		return err
	}
	for _, line := range lines {
		m.compare(line)
	}
	return m.write(ctx)
}

// look reads what the register knows of the ids and serials of the lines.
func (m *importing) look(ctx context.Context, lines []*fleet.Line) error {
	m.known, m.owners = make(map[string]*known, len(lines)), make(map[string]string, len(lines))
	var ids, serials []any
	for i, line := range lines {
		if i == 0 || line.Device.ID != lines[i-1].Device.ID {
			ids = append(ids, line.Device.ID)
		}
		if line.Device.Serial != "" {
			serials = append(serials, line.Device.Serial)
		}
	}
	err := m.among(ctx, "SELECT "+deviceColumns+", seq FROM device WHERE id IN ({?}) ORDER BY id"+forUpdate, nil, ids, func(r *sql.Rows) error {
		var k known
		var err error
		k.Device, err = scanDevice(r, &k.seq)
		m.known[k.ID] = &k
		if k.Serial != "" {
			m.owners[k.Serial] = k.ID
		}
		return err
	})
	if err != nil {
		return err
	}
	return m.among(ctx, "SELECT id, serial FROM device WHERE serial IN ({?}) AND serial <> ''", nil, serials, func(r *sql.Rows) error {
		var id, serial string
		err := r.Scan(&id, &serial)
		m.owners[serial] = id
		return err
	})
}

// compare takes one line: its device is new, different, the same, or in the way of another.
func (m *importing) compare(line *fleet.Line) {
	d := &line.Device
	if owner, taken := m.owners[d.Serial]; taken && d.Serial != "" && owner != d.ID {
		m.done.Errors = append(m.done.Errors, serialTaken(line, fmt.Sprintf("device %q", owner)))
		return
	}
	k := m.known[d.ID]
	switch {
	case k == nil:
		k = &known{Device: fleet.Device{ID: d.ID, State: fleet.Expected}, created: true}
		m.known[d.ID] = k
		m.done.Created++
	case k.Model == d.Model && k.Serial == d.Serial && k.Batch == d.Batch && k.EKSHA256 == d.EKSHA256 &&
		k.AKSHA256 == d.AKSHA256 && maps.Equal(k.Labels, d.Labels):
		m.done.Unchanged++
		return
	default:
		k.changed = true
		m.done.Updated++
		delete(m.owners, k.Serial)
	}
	k.Model, k.Serial, k.Batch, k.EKSHA256, k.AKSHA256, k.Labels = d.Model, d.Serial, d.Batch, d.EKSHA256, d.AKSHA256, d.Labels
	if d.Serial != "" {
		m.owners[d.Serial] = d.ID
	}
}

// write writes the devices that changed, then those that are new: a new one may
// have the serial that another has just given up.
func (m *importing) write(ctx context.Context) error {
	var rows []any
	for _, id := range slices.Sorted(maps.Keys(m.known)) {
		k := m.known[id]
		if k.created {
			values, err := deviceValues(&k.Device, m.at)
			if err != nil {
				return err
			}
			rows = append(rows, values...)
		} else if k.changed {
			labels, err := labelText(k.Labels)
			if err != nil {
				return err
			}
			err = m.exec(ctx, "UPDATE device SET model = ?, serial = ?, batch = ?, ek = ?, ak = ?, labels = ?, changed = ? WHERE seq = ?",
				k.Model, k.Serial, k.Batch, k.EKSHA256, k.AKSHA256, labels, m.at, k.seq)
			if err != nil {
				return err
			}
		}
	}
	return m.insert(ctx, insertDevice, deviceWidth, rows)
}
