package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/hallmark-pki/hallmark/fleet"
	"github.com/hallmark-pki/hallmark/internal/fault"
	"github.com/hallmark-pki/hallmark/policy"
)

// maxImport bounds an import file.
const maxImport = 64 << 20

// Media types of import files.
const (
	csvType   = "text/csv"             // RFC 7111
	jsonlType = "application/x-ndjson" // one JSON object a line
)

func (c *Console) importDevices(call *call) (deed, error) {
	if err := call.mediaType(csvType, jsonlType); err != nil {
		return deed{}, err
	}
	return deed{
		resource:   policy.Entity{Type: "device"},
		parameters: policy.Properties{"model": call.query("model"), "batch": call.query("batch")},
		// The body is read only after policy has permitted it: it is large, and it may take a while.
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			return c.takeImport(ctx, p, call)
		},
	}, nil
}

func (c *Console) takeImport(ctx context.Context, p policy.Permit, call *call) (answer, error) {
	read := fleet.ReadCSV
	if kind, _, _ := mime.ParseMediaType(call.Header.Get("Content-Type")); kind == jsonlType {
		read = fleet.ReadJSONL
	}
	digest := sha256.New()
	body := io.TeeReader(http.MaxBytesReader(call.body, call.Body, maxImport), digest)
	lines, bad, err := read(body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return answer{}, tooLarge(large.Limit)
	case err != nil:
		return answer{}, err
	case len(lines) == 0 && len(bad) == 0:
		return answer{}, fault.New(fault.Malformed, "import_empty", "the file holds no devices")
	}
	if lines, bad, err = c.promised(ctx, call, lines, bad); err != nil {
		return answer{}, err
	}
	imported, err := c.Fleet.Import(ctx, p, lines, bad, hex.EncodeToString(digest.Sum(nil)))
	return ok(imported), err
}

// promised keeps an import to what the call has said of it, on which policy
// has decided: lines of another model or batch are not taken, nor are those of devices that
// the register knows under another, so that nobody moves a device into their own part of the fleet.
func (c *Console) promised(ctx context.Context, call *call, lines []fleet.Line, bad []fleet.LineError) ([]fleet.Line, []fleet.LineError, error) {
	model, batch := call.query("model"), call.query("batch")
	if model == "" && batch == "" {
		return lines, bad, nil
	}
	within := func(d *fleet.Device) bool {
		return (model == "" || d.Model == model) && (batch == "" || d.Batch == batch)
	}
	taken := lines[:0]
	for _, line := range lines {
		known, err := c.Fleet.Device(ctx, line.Device.ID)
		isNew := fault.Is(err, fault.NotFound)
		if err != nil && !isNew {
			return nil, nil, err
		}
		if !within(&line.Device) || !isNew && !within(&known) {
			bad = append(bad, fleet.LineError{Line: line.Number, ID: line.Device.ID, Says: "the device is of another model or batch than this import is for"})
			continue
		}
		taken = append(taken, line)
	}
	return taken, bad, nil
}

func (c *Console) listDevices(call *call) (deed, error) {
	page, err := call.page()
	if err != nil {
		return deed{}, err
	}
	state := call.query("state")
	filter := fleet.Filter{
		Model: call.query("model"), Batch: call.query("batch"), State: fleet.State(state),
		After: page.cursor, Limit: page.ask(),
	}
	return deed{
		resource:   policy.Entity{Type: "device"},
		parameters: policy.Properties{"model": filter.Model, "batch": filter.Batch, "state": state},
		do: func(ctx context.Context, p policy.Permit) (answer, error) {
			devices, err := c.Fleet.List(ctx, p, filter)
			if err != nil {
				return answer{}, err
			}
			return listOf(page, devices, func(d fleet.Device) string { return d.ID }, same), nil
		},
	}, nil
}

func (c *Console) showDevice(call *call) (deed, error) {
	return call.about("device", "id", func(ctx context.Context, p policy.Permit, id string) (answer, error) {
		device, err := c.Fleet.Show(ctx, p, id)
		return ok(device), err
	})
}

func (c *Console) quarantineDevice(call *call) (deed, error) {
	return call.withReason("device", c.Fleet.Quarantine)
}

func (c *Console) releaseDevice(call *call) (deed, error) {
	return call.withReason("device", func(ctx context.Context, p policy.Permit, id, _ string) error {
		return c.Fleet.Release(ctx, p, id) // the reason stands in the decision
	})
}

func (c *Console) retireDevice(call *call) (deed, error) {
	return call.withReason("device", c.Fleet.Retire)
}
