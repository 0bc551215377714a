"""Redfish, the client's side: requests and responses as values. Pure: no socket, no clock. See DSP0266 and DSP0268."""
