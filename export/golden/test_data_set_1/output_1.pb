
BprobabilitiesJ(î›ˆ=Ÿa=vº”<±Ó;!»<¾<G<¨ø>âv=‰à<9>â˜>