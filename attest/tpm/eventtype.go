package tpm

import "fmt"

// eventType says what an entry of an event log measured (TCG PC Client Platform
// Firmware Profile, Section 10.4.1). No digest covers it, so it explains and never decides.
type eventType uint32

const (
	evNoAction       eventType = 0x00000003
	evSeparator      eventType = 0x00000004
	evAction         eventType = 0x00000005
	evCRTMVersion    eventType = 0x00000008
	evIPL            eventType = 0x0000000d
	evOmitBootDevice eventType = 0x00000012
	evVariableConfig eventType = 0x80000001
	evVariableBoot   eventType = 0x80000002
	evEFIAction      eventType = 0x80000007
	evVariableBoot2  eventType = 0x8000000c
	evVariableAuth   eventType = 0x800000e0
)

var eventTypes = map[eventType]string{
	0x00000000:       "EV_PREBOOT_CERT",
	0x00000001:       "EV_POST_CODE",
	0x00000002:       "EV_UNUSED",
	evNoAction:       "EV_NO_ACTION",
	evSeparator:      "EV_SEPARATOR",
	evAction:         "EV_ACTION",
	0x00000006:       "EV_EVENT_TAG",
	0x00000007:       "EV_S_CRTM_CONTENTS",
	evCRTMVersion:    "EV_S_CRTM_VERSION",
	0x00000009:       "EV_CPU_MICROCODE",
	0x0000000a:       "EV_PLATFORM_CONFIG_FLAGS",
	0x0000000b:       "EV_TABLE_OF_DEVICES",
	0x0000000c:       "EV_COMPACT_HASH",
	evIPL:            "EV_IPL",
	0x0000000e:       "EV_IPL_PARTITION_DATA",
	0x0000000f:       "EV_NONHOST_CODE",
	0x00000010:       "EV_NONHOST_CONFIG",
	0x00000011:       "EV_NONHOST_INFO",
	evOmitBootDevice: "EV_OMIT_BOOT_DEVICE_EVENTS",
	0x00000013:       "EV_POST_CODE2",
	evVariableConfig: "EV_EFI_VARIABLE_DRIVER_CONFIG",
	evVariableBoot:   "EV_EFI_VARIABLE_BOOT",
	0x80000003:       "EV_EFI_BOOT_SERVICES_APPLICATION",
	0x80000004:       "EV_EFI_BOOT_SERVICES_DRIVER",
	0x80000005:       "EV_EFI_RUNTIME_SERVICES_DRIVER",
	0x80000006:       "EV_EFI_GPT_EVENT",
	evEFIAction:      "EV_EFI_ACTION",
	0x80000008:       "EV_EFI_PLATFORM_FIRMWARE_BLOB",
	0x80000009:       "EV_EFI_HANDOFF_TABLES",
	0x8000000a:       "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
	0x8000000b:       "EV_EFI_HANDOFF_TABLES2",
	evVariableBoot2:  "EV_EFI_VARIABLE_BOOT2",
	0x8000000d:       "EV_EFI_GPT_EVENT2",
	0x80000010:       "EV_EFI_HCRTM_EVENT",
	evVariableAuth:   "EV_EFI_VARIABLE_AUTHORITY",
	0x800000e1:       "EV_EFI_SPDM_FIRMWARE_BLOB",
	0x800000e2:       "EV_EFI_SPDM_FIRMWARE_CONFIG",
	0x800000e3:       "EV_EFI_SPDM_DEVICE_POLICY",
	0x800000e4:       "EV_EFI_SPDM_DEVICE_AUTHORITY",
}

// String returns the name that specifications and tools use.
func (t eventType) String() string {
	if name, ok := eventTypes[t]; ok {
		return name
	}
	return fmt.Sprintf("0x%08x", uint32(t))
}
